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
    "hvlabel.manifest": {"config", "demo.paths", "descriptors", "layout", "walk"},
    # readers: the contract below, what containers share, the containers, their table, images of any of them on top
    "hvlabel.readers.georeference": set(),
    "hvlabel.readers.contract": {"descriptors", "wavelengths", "readers.georeference"},
    "hvlabel.readers.sizes": set(),
    "hvlabel.readers.pictures": set(),
    "hvlabel.readers.refusals": set(),
    "hvlabel.readers.missing": set(),
    "hvlabel.readers.gains": set(),
    "hvlabel.readers.slabs": {"readers.contract"},
    "hvlabel.readers.guesses": {"readers.contract"},
    "hvlabel.readers.arrays": {"readers.contract", "readers.sizes"},
    "hvlabel.readers.named": {"descriptors", "wavelengths", "readers.arrays", "readers.contract", "readers.gains", "readers.guesses", "readers.sizes"},
    "hvlabel.readers.formats": {"descriptors", "wavelengths", "readers.arrays", "readers.contract", "readers.gains", "readers.georeference", "readers.guesses", "readers.named", "readers.pictures", "readers.refusals", "readers.sizes", "readers.slabs"},
    "hvlabel.readers.table": {"descriptors", "readers.contract", "readers.formats"},
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
    "hvlabel.demo.paths": {"config", "layout"},
    "hvlabel.demo": {"config", "descriptors", "cube", "layout", "manifest", "masks", "cache"},
    "hvlabel.stages": {"", "branches", "cache", "config", "cube", "descriptors", "fusion", "layout", "manifest", "masks", "models", "prompt_files", "quality", "readers"},
    "hvlabel.inspect": {"cache", "config", "cube", "descriptors", "evaluation", "layout", "manifest", "masks", "readers", "stages"},
    "hvtrain": {"", "config", "cube", "masks", "cache", "layout", "models.hyperfree", "models.weights", "quality"},
    "hvtrain.embedded": {"config", "cube", "demo", "models.hyperfree", "models.sam2", "models.teacher", "models.weights"},
    "workflow": {"config", "manifest", "layout", "cache.index"},
}  # fmt: skip


def imports(path):
    """Dotted names below hvlabel that a file imports anywhere in it."""
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
            if name == "hvlabel" or name.startswith("hvlabel."):
                yield name.removeprefix("hvlabel").removeprefix(".")


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


def test_work_without_a_network_does_without_torch():
    verbs = ("convert", "segment", "fuse")
    code = (
        f"import sys\nfor verb in {verbs}:\n    __import__('hvlabel.stages.' + verb)\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
