"""The programs as tests call them: verbs in this process, without the seconds that a new interpreter takes; runs outside."""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hvlabel.cli import main as hvlabel_main


class Said(NamedTuple):
    """Exit status and what was printed."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything."""
        return self.out + self.err


def hvlabel(*arguments) -> Said:
    """`hvlabel ARGUMENTS`."""
    return call(hvlabel_main, "hvlabel", *arguments)


def hvtrain(*arguments) -> Said:
    """`hvtrain ARGUMENTS`."""
    from hvtrain.cli import main  # only here: torch takes seconds to import

    return call(main, "hvtrain", *arguments)


def call(main: Callable[[], None], program: str, *arguments) -> Said:
    """A program's entry point with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    before, status = sys.argv, 0
    sys.argv = [program, *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        sys.argv = before
    return Said(status, out.getvalue(), err.getvalue())


SNAKEFILE = Path(__file__).resolve().parent.parent / "workflow" / "Snakefile"


@contextlib.contextmanager
def starting(folder, *arguments, snakefile=SNAKEFILE, show="jobs"):
    """`snakemake ARGUMENTS` of the workflow, begun in a folder; `ended` waits for it."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--cores", "2", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"HVLABEL_SHOW": show}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        yield process


def ended(process) -> Said:
    """What a started run came to."""
    out, err = process.communicate(timeout=1800)
    return Said(process.returncode, out, err)


def snakemake(folder, *arguments, snakefile=SNAKEFILE, show="jobs") -> Said:
    """`snakemake ARGUMENTS` of the workflow in a folder. show: HVLABEL_SHOW."""
    with starting(folder, *arguments, snakefile=snakefile, show=show) as process:
        return ended(process)


def counts_of(said: Said) -> dict[str, tuple[int, ...]]:
    """What each job of a run said: {'labels mine/0000': (made, kept, failed, left out)}."""
    line = r"^(\w+ [\w-]+/\d+): (\d+) made, (\d+) kept, (\d+) failed, (\d+) left out"
    return {name: tuple(map(int, counts)) for name, *counts in re.findall(line, said.text, re.MULTILINE)}


def rules_of(said: Said) -> list[str]:
    """The rules that a run carried out, or of a dry run: would."""
    return re.findall(r"^(?:local)?rule (\w+):", said.text, re.MULTILINE)
