"""Which room may import which: the architecture as a table."""

import ast
import subprocess
import sys

import pytest

# package or module -> what it may import from the project, besides itself and errors
# A room inside another one (hvlabel.config.tree) is a room of its own: who may import the outer room may not import it.
ROOMS = {
    "hvlabel.errors": set(),
    "hvlabel.settings": set(),
    "hvlabel.yaml_file": set(),
    "hvlabel.wavelengths": set(),
    "hvlabel.walk": set(),
    "hvlabel.checksummed": set(),
    "hvlabel.group_file": {"checksummed"},
    "hvlabel.zarr_files": set(),
    "hvlabel.descriptors": {"settings", "wavelengths", "yaml_file"},
    # the circle that is none: models, then branches with their settings, then the tree that holds them all
    "hvlabel.config": {"settings", "descriptors"},
    "hvlabel.branches.table": {"config", "masks"},
    "hvlabel.config.fusion": {"settings", "config", "branches.table"},
    "hvlabel.config.tree": {"settings", "config", "config.fusion", "branches.table", "descriptors", "walk", "yaml_file"},
    "hvlabel.layout": {"branches.table"},
    "hvlabel.manifest": {"config", "config.tree", "demo.paths", "descriptors", "layout", "walk"},
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
    "hvlabel.masks": set(),
    "hvlabel.prompt_files": {"masks"},
    "hvlabel.cube": {"config", "group_file", "readers", "zarr_files"},
    "hvlabel.cache": {"branches.table", "checksummed", "group_file", "layout", "manifest", "zarr_files"},
    "hvlabel.models": {"config", "yaml_file"},
    "hvlabel.branches": {"config", "cube", "masks", "models", "prompt_files"},
    "hvlabel.fusion": {"config.fusion", "masks"},
    "hvlabel.quality": {"config.fusion", "cube", "masks"},
    "hvlabel.demo.paths": {"config", "layout"},
    "hvlabel.demo": {"config", "descriptors", "cube", "layout", "manifest", "masks", "cache"},
    "hvlabel.stages.contract": {"cache", "layout", "manifest"},
    "hvlabel.stages.failures": {"cache", "manifest"},
    "hvlabel.stages.shard": {"cache", "layout", "manifest", "stages.contract", "stages.failures"},
    "hvlabel.stages": {"", "branches", "branches.table", "cache", "config", "config.fusion", "cube", "descriptors", "fusion", "layout", "manifest", "masks", "models", "prompt_files", "quality", "readers", "settings", "stages.contract"},
    "hvlabel.viewer": {"", "branches", "config.fusion", "cube", "fusion", "layout", "masks", "quality", "settings"},
    "hvlabel.inspect.precision": {"masks"},
    "hvlabel.inspect.scores": {"inspect.precision", "masks"},
    "hvlabel.inspect": {"", "branches.table", "cache", "checksummed", "config", "config.fusion", "config.tree", "cube", "descriptors", "group_file", "models.weights", "inspect.scores", "layout", "manifest", "masks", "readers", "stages", "viewer"},
    "hvlabel.exports": {"", "cache", "cube", "inspect", "layout", "masks"},
    "hvlabel.imports": {"cache", "cube", "layout", "manifest", "masks", "models.weights", "prompt_files"},
    "hvtrain.data": {"cache", "config", "cube", "layout", "masks", "models.sam"},
    "hvtrain.backbones": {"cache", "config", "models.hyperfree", "models.padding", "models.sam"},
    "hvtrain.heads": {"models.blocks", "models.decoder"},
    "hvtrain.objectives": {"cache", "config"},
    "hvtrain.engine": {"cache", "config", "models.weights"},
    "hvtrain.student": {"config", "models.hyperfree", "models.weights"},
    "hvtrain.pretrain": {"", "cache", "config", "layout", "models.weights"},
    "hvtrain.tasks": {"cache", "config", "cube", "layout", "masks", "models.decoder", "models.padding", "models.weights"},
    "hvtrain.metrics": set(),
    "hvtrain.api": {"cube"},
    "hvtrain.downstream": {"", "cache", "config", "config.downstream", "cube", "demo", "descriptors", "layout", "manifest", "models.decoder", "models.sam", "models.store", "models.weights", "readers", "readers.formats", "readers.named", "settings", "stages", "walk", "yaml_file"},
    "hvtrain.downstream_cli": set(),
    "hvtrain.recipes": {"cache", "config", "cube", "demo", "layout", "masks", "models.device", "models.hyperfree", "models.pictures", "models.sam", "models.sam2", "models.weights", "quality"},
    "hvtrain.cli": {"cache", "config", "config.tree", "layout", "settings"},
    "workflow": {"branches.table", "config.downstream", "config.tree", "manifest", "layout", "cache.at_work", "cache.index", "cache.left_overs", "inspect.live"},
}  # fmt: skip

# inside a room: file or folder -> what it may import of the room; what stands higher never imports what stands lower
INNER = {
    "hvlabel.branches.points": {
        "contract": set(),
        "stability": set(),
        "boxes": {"contract"},
        "decoding": {"contract"},
        "full_size": {"boxes", "contract", "stability"},
        "exact": {"contract", "decoding", "full_size"},
        "fast": {"boxes", "contract", "decoding", "full_size", "stability"},
    },
    "hvlabel.models": {
        "blocks": set(),
        "device": set(),
        "npm": set(),
        "padding": set(),
        "pictures": set(),
        "two_way": set(),
        "weights": set(),
        "batches": {"two_way"},
        "decoder": {"blocks"},
        "prompts": {"batches", "decoder", "two_way"},
        "hyperfree": {"batches", "blocks", "decoder", "padding", "prompts"},
        "sam": {"batches", "blocks", "decoder", "hyperfree", "padding", "prompts", "weights"},
        "sam2": {"batches", "pictures", "two_way", "weights"},
        "store": {"npm", "sam"},
        "teacher": {"pictures", "sam", "sam2"},
    },
    "hvlabel.models.two_way": {
        "contract": set(),
        "attention": {"contract"},
        "precision": {"contract"},
        "upscaling": {"contract"},
        "image": {"attention", "contract", "upscaling"},
        "transformer": {"attention", "contract", "image"},
        "masks": {"contract", "image", "transformer", "upscaling"},
    },
    "hvlabel.models.sam2": {
        "contract": set(),
        "embedding": set(),
        "config_file": set(),
        "network": {"config_file"},
        "memory_encoder": {"contract"},
        "pointers": {"contract"},
        "published": {"contract"},
        "rotary": {"contract"},
        "memory_attention": {"contract", "rotary"},
        "memory": {"contract", "memory_attention", "memory_encoder", "pointers", "published"},
        "tracker": {"contract", "embedding", "memory", "memory_attention"},
        "predictor": {"contract", "embedding", "tracker"},
    },
}

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
    "metrics": set(),
    "downstream": {"data", "backbones", "heads", "student", "engine", "metrics"},
    "downstream_cli": {"downstream", "engine"},
    "api": {"data", "backbones", "downstream"},
    "cli": {"backbones", "engine", "pretrain", "tasks", "downstream_cli"},
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


# rooms of which a part stands higher than the rest: who may import the room may not for that import the part
PARTED = ("branches", "config")


def may_import(allowed, name):
    """Whether a name is in an allowed room, and not in a higher part of one."""
    parts = [room.removeprefix("hvlabel.") for room in ROOMS if room.count(".") > 1]
    higher = [p for p in parts if p.startswith(PARTED) and (name == p or name.startswith(p + "."))]
    least = max(map(len, higher), default=0)
    for room in allowed:
        inside = name == room or (room and name.startswith(room + "."))
        if inside and len(room) >= least:
            return True
    return False


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_they_may(repository, room):
    allowed = {*ROOMS[room], "errors", room.removeprefix("hvlabel.")}
    found = files(repository, room)
    assert found
    for path in found:
        for name in imports(path):
            assert may_import(allowed, name), f"{path.relative_to(repository)} imports hvlabel.{name}"


@pytest.mark.parametrize(
    "first",
    ["branches.rgb", "branches.table", "config", "config.tree", "config.fusion", "cube", "layout", "stages.fuse"],
)
def test_any_file_may_be_imported_first(first):
    assert subprocess.run([sys.executable, "-c", f"import hvlabel.{first}"], check=False).returncode == 0


@pytest.mark.parametrize("room", FLOORS)
def test_rooms_of_training_import_only_floors_below(repository, room):
    for path in files(repository, f"hvtrain.{room}"):
        for name in imports(path, "hvtrain"):
            assert name.split(".")[0] in {*FLOORS[room], room}, f"{path.relative_to(repository)} imports hvtrain.{name}"


@pytest.mark.parametrize("room", INNER)
def test_inside_a_room_files_import_only_what_they_may(repository, room):
    base = repository / room.replace(".", "/")
    parts = {p.relative_to(base).parts[0].removesuffix(".py") for p in base.rglob("*.py")} - {"__init__"}
    assert parts == INNER[room].keys()
    within = room.removeprefix("hvlabel.") + "."
    for part, allowed in INNER[room].items():
        for path in sorted((base / part).rglob("*.py")) or [base / f"{part}.py"]:
            others = {name.removeprefix(within).split(".")[0] for name in imports(path) if name.startswith(within)}
            assert others - {part} <= allowed, f"{path.relative_to(repository)} imports {others - {part} - allowed}"


def test_only_one_file_imports_sam2(repository):
    for path in (repository / "hvlabel").rglob("*.py"):
        if path != repository / "hvlabel" / "models" / "sam2" / "network.py":
            assert "import sam2" not in path.read_text()
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


def loads(modules, code):
    """Which of some modules a new process has loaded after some code."""
    names = f"[m for m in {modules!r} if m in sys.modules]"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*{names})"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_work_without_a_network_does_without_torch():
    assert (
        loads(["torch"], "\n".join(f"import hvlabel.stages.{stage}" for stage in ("convert", "segment", "fuse"))) == []
    )


def test_branches_on_regions_do_without_torch(tmp_path):
    code = f"""
from pathlib import Path
import numpy as np
from hvlabel.cache.receipt import seal_folder
from hvlabel.config import CubeSettings
from hvlabel.descriptors import Descriptor
from hvlabel.stages.convert import convert_file
from hvlabel.stages.segment import BranchRunner, segment_file
from hvlabel.branches.table import TABLE
folder = Path({str(tmp_path)!r})
np.save(folder / "a.npy", np.random.default_rng(0).uniform(size=(24, 24, 9)))
camera = Descriptor(container="npy", wavelengths_nm={{"start_nm": 450, "stop_nm": 650, "count": 9}})
convert_file(folder / "a.npy", camera, CubeSettings(), folder / "a.zarr")
for row in TABLE:
    if row.name != "prompts":
        runner = BranchRunner(row.name, row.settings(backend="regions"))
        segment_file(runner, folder / "a.zarr", folder / f"{{row.name}}.json")
"""
    assert loads(["torch"], code) == []


def test_reading_a_configuration_is_quick():
    """Branches hold their settings beside what they do, which is imported when they do it."""
    slow = ["torch", "zarr", "skimage", "scipy", "h5py"]
    assert loads(slow, "import hvlabel.config.tree\nimport hvlabel.cli") == []
