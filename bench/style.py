"""How densely the code is written: numbers to look at, no gates.

python bench/style.py [FOLDER...]            a row per folder; default: the packages and the tests
python bench/style.py --densest 20 FOLDER    the statements with most tokens
"""

import argparse
import ast
import io
import statistics
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_LINE, MAX_FILE_LINES = 120, 300
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
STATEMENTS = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Statement:
    """A statement without a body, and how many tokens it has."""

    path: Path
    line: int
    n_tokens: int


@dataclass(frozen=True)
class Counts:
    """Of one file: lines of code, comments, docstring lines, lines too long, all lines, and its statements."""

    code: int
    comments: int
    docstrings: int
    long_lines: int
    lines: int
    statements: list[Statement]


def measured(path: Path) -> Counts:
    """Counts of a Python file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    starts = [token.start for token in tokens if token.type not in LAYOUT]
    docstrings = sum(_docstring_lines(node) for node in ast.walk(tree))
    statements = []
    for node in _plain_statements(tree):
        end = (node.end_lineno or node.lineno, node.end_col_offset or 0)
        n_tokens = sum((node.lineno, node.col_offset) <= start < end for start in starts)
        statements.append(Statement(path, node.lineno, n_tokens))
    lines = text.splitlines()
    written = sum(bool(line.strip()) for line in lines)
    comment_lines = sum(line.lstrip().startswith("#") for line in lines)
    return Counts(
        code=max(1, written - docstrings - comment_lines),
        comments=sum(token.type == tokenize.COMMENT for token in tokens),
        docstrings=docstrings,
        long_lines=sum(len(line) > MAX_LINE for line in lines),
        lines=len(lines),
        statements=statements,
    )


def _docstring_lines(node: ast.AST) -> int:
    if not isinstance(node, DOCUMENTED) or ast.get_docstring(node) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def _plain_statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Assignments, returns and calls; docstrings are no statements."""
    for node in ast.walk(tree):
        if not isinstance(node, STATEMENTS):
            continue
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            yield node


def row(name: str, files: list[Counts]) -> str:
    """A folder's line of the table."""
    code = sum(f.code for f in files)
    tokens = statistics.median(s.n_tokens for f in files for s in f.statements)
    figures = [
        f"{len(files)}",
        f"{code}",
        f"{tokens:g}",
        f"{100 * sum(f.comments for f in files) / code:.1f}",
        f"{100 * sum(f.docstrings for f in files) / code:.0f}",
        f"{sum(f.long_lines for f in files)}",
        f"{sum(f.lines > MAX_FILE_LINES for f in files)}",
    ]
    return f"| {name} | " + " | ".join(figures) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("hvlabel"), Path("hvtrain"), Path("tests")])
    parser.add_argument("--densest", type=int, metavar="N")
    arguments = parser.parse_args()
    counted = {folder: [measured(path) for path in sorted(folder.rglob("*.py"))] for folder in arguments.folders}
    if arguments.densest:
        statements = [s for files in counted.values() for f in files for s in f.statements]
        for s in sorted(statements, key=lambda s: -s.n_tokens)[: arguments.densest]:
            print(f"{s.n_tokens:4} {s.path}:{s.line}")
        return
    print("| | files | lines of code | tokens per statement | comments per 100 | docstring lines per 100 | ", end="")
    print(f"lines over {MAX_LINE} | files over {MAX_FILE_LINES} lines |")
    print("|---|" + "---:|" * 7)
    for folder, files in counted.items():
        print(row(str(folder), files))


if __name__ == "__main__":
    main()
