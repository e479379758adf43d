"""Every script of examples/ on a tiny results folder, and the commands of the first hour that need no network."""

import csv
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from verbs import call, hvlabel, hvtrain

from hvlabel.branches.table import CORE_BRANCHES
from hvlabel.cache.index import publish_scan
from hvlabel.config.tree import load_config, parse_config
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.files import write_scenes
from hvlabel.describe import describe
from hvlabel.layout import Layout
from hvlabel.manifest import scan
from hvlabel.masks import is_corrected, read_document, read_masks
from hvlabel.stages.convert import CubeStage
from hvlabel.stages.fuse import FuseStage
from hvlabel.stages.segment import BranchRunner, BranchStage
from hvlabel.stages.shard import run_shard

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CHECKER = EXAMPLES / "colour_checker"
REGIONS = {"backend": "regions"}


def run_inside(command, check):
    """In place of `subprocess.run`: a program of this repository, without the seconds that its imports take."""
    python, m, program, *arguments = command
    assert (python, m, check) == (sys.executable, "-m", True)
    said = {"hvlabel": hvlabel, "hvtrain": hvtrain}[program](*arguments)
    assert said.status == 0, said.text


@pytest.fixture
def run(monkeypatch):
    """What a script of examples/ prints."""
    monkeypatch.chdir(EXAMPLES.parent)
    monkeypatch.setattr(subprocess, "run", run_inside)

    def run_script(script, *arguments):
        def main():
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")

        said = call(main, script, *arguments)
        assert said.status == 0, said.text
        return said.out

    return run_script


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """Two labelled scenes of one camera, by regions. Tests that change a file take the second."""
    tree = {
        "results": str(tmp_path_factory.mktemp("examples") / "results"),
        "datasets": {"vis": {"demo": "vis31", "demo_scenes": 2, "demo_size_px": 64}},
        "rgb": REGIONS,
        "sequence": {**REGIONS, "max_frames": 2},
        "material": REGIONS,
    }
    config = parse_config(tree, "test")
    layout = Layout(Path(config.results))
    write_scenes("vis", config.datasets["vis"], layout.root)
    found = scan(config)
    publish_scan(layout, found)

    def walk(stage):
        run_shard(stage, found.images, layout, "vis", "0000")

    walk(CubeStage(layout, CAMERAS["vis31"].descriptor, config.cube))
    for branch in CORE_BRANCHES:
        walk(BranchStage(layout, BranchRunner(branch, getattr(config, branch)), "vis", "0000"))
    walk(FuseStage(layout, config.fusion, "vis", "0000"))
    return layout


def test_every_script_is_short_and_says_how_it_is_called():
    for script in EXAMPLES.glob("*.py"):
        text = script.read_text()
        assert len(text.splitlines()) <= 40, f"{script.name} is long for an example"
        assert f"python examples/{script.name} " in text


def test_labels_come_in_batches(run, layout):
    lines = run("read_labels.py", layout.root).splitlines()
    assert sorted(line.split(":")[0] for line in lines) == ["vis31_00", "vis31_01"]
    assert all("cube (31, 64, 64), masks (" in line for line in lines)


def test_coco_holds_the_labels(run, layout, tmp_path):
    out = tmp_path / "coco"
    run("masks_to_coco.py", layout.root, out)
    coco = COCO(out / "annotations/instances_default.json")
    assert [i["name"] for i in coco.loadImgs(coco.getImgIds())] == ["vis31_00", "vis31_01"]
    first = coco.loadAnns(coco.getAnnIds(imgIds=1))
    kept = [m for m in read_masks(layout.label("vis", "vis31_00")).masks if m.extra["quality"] >= 0.3]
    assert len(first) == len(kept)
    assert int(coco.annToMask(first[0]).sum()) == first[0]["area"]


def test_spectra_have_a_row_per_band(run, layout):
    rows = list(csv.reader(run("spectrum_of_a_mask.py", layout.root, "vis/vis31_00").splitlines()))
    assert rows[0][:2] == ["nm", "mask 0"]
    assert [float(row[0]) for row in (rows[1], rows[-1])] == [400, 700]
    assert len(rows) == 1 + 31


def test_a_raw_file_becomes_a_label_without_a_workflow(run, tmp_path):
    last = run("segment_one_cube.py", CHECKER / "ColorChecker25.mat", CHECKER / "camera.yaml", tmp_path).splitlines()[
        -1
    ]
    label = read_masks(tmp_path / "label.json")
    assert last == f"{tmp_path}/label.json: {len(label)} masks, {len(label.suppressed)} suppressed"
    assert (label.height_px, label.width_px) == (105, 220)
    assert len(label) > 8  # patches


def test_features_become_a_picture(run, layout, tmp_path, repository):
    backbone = repository / "resources/models/hyperfree_embedded.safetensors"
    out = tmp_path / "features.png"
    run("features_of_a_cube.py", layout.cube("vis", "vis31_00"), backbone, out)
    with Image.open(out) as picture:
        assert picture.size == (48, 48)  # 192 px of input, tokens of 4
        assert picture.getextrema() == ((0, 255),) * 3


def test_own_cubes_are_segmented_from_one_label(run, layout, tmp_path, repository):
    backbone = repository / "resources/models/hyperfree_embedded.safetensors"
    labels, out = tmp_path / "labels", tmp_path / "out"
    labels.mkdir()
    shutil.copy(layout.materials("vis", "vis31_00"), labels / "vis31_00.png")
    run("segment_my_data.py", backbone, layout.root / "cubes/vis", labels, out)
    with Image.open(labels / "vis31_00.png") as picture:
        truth = np.array(picture)
    with Image.open(out / "vis31_00.png") as picture:
        assert (np.array(picture) == truth).mean() > 0.9
    with Image.open(out / "vis31_01.png") as picture:
        assert set(np.unique(picture)) <= set(np.unique(truth))


def test_a_corrected_label_is_sealed(run, layout):
    path = layout.label("vis", "vis31_01")
    before = read_masks(path)
    run("correct_a_label.py", path, "--drop", 0, "--polygon", "10,10,30,10,30,40")
    after = read_document(path)
    assert is_corrected(after)
    assert len(after["annotations"]) == len(before)
    assert after["annotations"][-1]["branch"] == "person"


def test_the_first_hour_shows_what_describe_prints(repository):
    page = (repository / "docs/FIRST_HOUR.md").read_text()
    printed = describe(CHECKER / "ColorChecker25.mat").replace(f"{EXAMPLES.parent}/", "")
    assert printed.strip() in page


def test_the_first_hour_runs_on_the_data_that_come_with_it(monkeypatch, repository):
    monkeypatch.chdir(repository)
    config = load_config(CHECKER / "run.yaml")
    images = scan(config).images
    assert [(i.dataset, i.image_id) for i in images] == [("checker", "ColorChecker25")]
    assert config.results == "results-first-hour"
