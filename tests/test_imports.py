"""Which room may import which: the architecture as a table."""

import ast
import subprocess
import sys

import pytest

# package or module -> what it may import from the project, besides itself and errors
ROOMS = {
    "hvlabel.errors": set(),
    "hvlabel.settings": set(),
    "hvlabel.wavelengths": set(),
    "hvlabel.walk": set(),
    "hvlabel.descriptors": {"settings", "wavelengths"},
    "hvlabel.config": {"settings", "descriptors"},
    "hvlabel.layout": set(),
    "hvlabel.manifest": {"config", "descriptors", "layout", "walk"},
    "hvlabel.readers": {"descriptors", "wavelengths"},
    "hvlabel.describe": {"descriptors", "readers", "walk"},
    "hvlabel.prompt_files": set(),
    "hvlabel.masks": {"config"},
    "hvlabel.cube": {"config", "readers"},
    "hvlabel.cache": {"layout", "manifest", "masks", "cube"},
    "hvlabel.models": {"config"},
    "hvlabel.branches": {"config", "cube", "masks", "models", "prompt_files"},
    "hvlabel.fusion": {"config", "masks"},
    "hvlabel.quality": {"cube", "masks"},
    "hvlabel.evaluation": {"masks"},
    "hvlabel.demo": {"config", "descriptors", "cube", "layout", "manifest", "masks", "cache"},
    "hvlabel.stages": {"", "branches", "cache", "config", "cube", "descriptors", "fusion", "layout", "manifest", "masks", "models", "prompt_files", "quality", "readers"},
    "hvlabel.inspect": {"cache", "config", "cube", "descriptors", "evaluation", "layout", "manifest", "masks", "readers", "stages"},
    "hvtrain.data": {"cache", "config", "cube", "layout", "masks"},
    "hvtrain.backbones": {"cache", "config", "models.hyperfree"},
    "hvtrain.heads": {"models.hyperfree"},
    "hvtrain.objectives": {"cache", "config"},
    "hvtrain.engine": {"cache", "config", "models.weights"},
    "hvtrain.student": {"config", "models.hyperfree", "models.weights"},
    "hvtrain.pretrain": {"", "cache", "config", "layout", "models.weights"},
    "hvtrain.tasks": {"cache", "config", "cube", "layout", "masks", "models.hyperfree", "models.prompts", "models.weights"},
    "hvtrain.recipes": {"cache", "config", "cube", "demo", "layout", "masks", "models.device", "models.hyperfree", "models.sam", "models.sam2", "models.teacher", "models.weights", "quality"},
    "hvtrain.cli": {"cache", "config", "layout"},
    "workflow": {"config", "manifest", "layout", "cache.index"},
}  # fmt: skip


# room of hvtrain -> the rooms of hvtrain that it may import, besides itself
FLOORS = {
    "data": set(),
    "backbones": {"data"},
    "heads": {"data", "backbones"},
    "student": {"backbones", "heads"},
    "engine": {"data"},
    "objectives": {"data", "backbones", "heads"},
    "pretrain": {"data", "backbones", "student", "engine", "objectives"},
    "recipes": {"data", "backbones", "heads", "engine", "objectives"},
    "tasks": {"data", "backbones", "heads", "student", "engine", "objectives", "pretrain"},
    "cli": {"backbones", "engine", "pretrain", "tasks"},
}


def imports(path, package="hvlabel"):
    """Dotted names below a package that a file imports anywhere in it."""
    text = path.read_text()
    if path.suffix == ".smk":
        text = "\n".join(line for line in text.splitlines() if line.startswith(("from ", "import ")))
    for node in ast.walk(ast.parse(text)):
        names = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        for name in names:
            if name == package or name.startswith(f"{package}."):
                yield name.removeprefix(package).removeprefix(".")


def files(repository, room):
    base = repository / room.replace(".", "/")
    if base.with_suffix(".py").is_file():
        return [base.with_suffix(".py")]
    apart = {p for other in ROOMS if other.startswith(f"{room}.") for p in files(repository, other)}
    return sorted({*base.rglob("*.py"), *base.rglob("*.smk")} - apart)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_they_may(repository, room):
    allowed = {*ROOMS[room], "errors", room.removeprefix("hvlabel.")}
    found = files(repository, room)
    assert found
    for path in found:
        for name in imports(path):
            assert any(name == a or (a and name.startswith(a + ".")) for a in allowed), (
                f"{path.relative_to(repository)} imports hvlabel.{name}"
            )


@pytest.mark.parametrize("room", FLOORS)
def test_rooms_of_training_import_only_floors_below(repository, room):
    for path in files(repository, f"hvtrain.{room}"):
        for name in imports(path, "hvtrain"):
            assert name.split(".")[0] in {*FLOORS[room], room}, f"{path.relative_to(repository)} imports hvtrain.{name}"


def test_only_one_file_imports_sam2(repository):
    for path in (repository / "hvlabel").rglob("*.py"):
        if path.name != "sam2.py":
            assert "import sam2" not in path.read_text().replace("from hvlabel.models.sam2 import", "")
            assert "from sam2" not in path.read_text()


def test_every_room_is_in_the_table(repository):
    rooms = {
        f"hvlabel.{p.stem}"
        for p in (repository / "hvlabel").iterdir()
        if p.name not in ("__init__.py", "__main__.py", "cli", "__pycache__")
    }
    assert rooms <= ROOMS.keys()
    training = {p.stem for p in (repository / "hvtrain").iterdir()} - {"__init__", "__main__", "__pycache__"}
    assert training == FLOORS.keys()


def test_work_without_a_network_does_without_torch():
    verbs = ("convert", "segment", "fuse")
    code = (
        f"import sys\nfor verb in {verbs}:\n    __import__('hvlabel.stages.' + verb)\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
