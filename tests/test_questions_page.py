"""docs/QUESTIONS.md and docs/EXPORTS.md: every command runs on a small run and prints its table; snippets run."""

import re
import runpy
import shlex
import shutil
import subprocess

import pytest
from verbs import call, hvlabel

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# what the small run calls what the demo of the pages has
OTHER_NAMES = {
    "demo-vis31": "d",
    "demo-mosaic16": "d",
    "vis31_02": "vis31_01",
    "56,66": "6,6",
    "--drop 25 26": "--drop 0 1",
}
FORMATS = ("coco", "parquet", "huggingface", "fiftyone", "ngff", "gpkg")


def blocks(repository, page, language):
    """The code blocks of a page in a language."""
    text = (repository / "docs" / page).read_text()
    for other, small in OTHER_NAMES.items():
        text = text.replace(other, small)
    return [content for name, content in BLOCK.findall(text) if name == language]


def commands(repository, page):
    """(command, printed lines) of every command of a page."""
    for block in blocks(repository, page, ""):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *printed = part.rstrip().splitlines()
            yield command, printed


@pytest.fixture
def here(demo_run, tmp_path, repository, monkeypatch):
    """A working directory with results/ and examples/, as the pages take it."""
    shutil.copytree(demo_run / "results", tmp_path / "results")
    (tmp_path / "examples").symlink_to(repository / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command, monkeypatch):
    """A command of a page; programs of this repository in this process."""
    program, *arguments = shlex.split(command)
    if program == "hvlabel":
        return hvlabel(*arguments)
    if program == "python":
        monkeypatch.setattr(subprocess, "run", lambda words, check: hvlabel(*words[3:]))
        return call(lambda: runpy.run_path(arguments[0], run_name="__main__"), *arguments)
    assert program == "cp"
    shutil.copy(*arguments)
    return None


def test_every_question_is_answered(here, repository, monkeypatch):
    n_commands = 0
    for command, printed in commands(repository, "QUESTIONS.md"):
        said = run(command, monkeypatch)
        n_commands += 1
        if said is None:
            continue
        assert said.status == 0, f"{command}: {said.err}"
        for line in printed:
            # headers of tables stand as printed; numbers are those of the demo
            if line.startswith("| ") and not re.search(r"\d", line):
                assert line in said.out, command
    assert n_commands == 11


def test_the_page_has_ten_questions_and_each_has_its_verb(repository):
    text = (repository / "docs/QUESTIONS.md").read_text()
    assert len(re.findall(r"^## ", text, re.MULTILINE)) == 10
    for name in ("status", "quality", "show", "why", "compare", "accept", "export", "info"):
        assert f"`{name}" in text or f"hvlabel {name}" in text


def test_commands_of_exports_run(here, repository, monkeypatch):
    assert hvlabel("export", "out", "--to", "coco,parquet").status == 0
    for command, _ in commands(repository, "EXPORTS.md"):
        said = run(command, monkeypatch)
        assert said.status == 0, f"{command}: {said.err}"


SNIPPETS = {
    "torch": 0,
    "pycocotools": 1,
    "datasets": 2,
    "pandas": 3,
    "fiftyone": 4,
    "napari": 5,
    "geopandas": 6,
    "supervision": 7,
}


@pytest.mark.parametrize("module", SNIPPETS)
def test_snippets_run(here, repository, module):
    pytest.importorskip(module, reason=f"{module} is not installed")
    if module in ("fiftyone", "napari"):
        pytest.skip(f"{module} opens a window")
    snippet = blocks(repository, "EXPORTS.md", "python")[SNIPPETS[module]]
    assert f"import {module}" in snippet or f"from {module}" in snippet
    formats = [name for name in FORMATS if f"out/{name}" in snippet]
    if formats:
        # with a second one each format has a folder of its own
        assert hvlabel("export", "out", "--to", ",".join([*formats, "yolo"])).status == 0
    said = call(lambda: exec(compile(snippet, module, "exec"), {}), module)
    assert said.status == 0
    assert said.out


def test_the_table_of_formats_is_the_table(repository):
    from hvlabel.exports.table import NAMES

    text = (repository / "docs/EXPORTS.md").read_text()
    assert tuple(re.findall(r"^\| `([a-z][\w-]*)` \| .* \| .* \| .* \|$", text, re.MULTILINE)) == NAMES
