"""The law of paths: what takes one as a Path takes it as text too, and gives the same."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from hvlabel.cache.index import read_index
from hvlabel.config import CubeSettings, RgbSettings
from hvlabel.config.fusion import FusionSettings
from hvlabel.config.tree import load_config
from hvlabel.cube import open_cube
from hvlabel.describe import describe
from hvlabel.descriptors import load_descriptor
from hvlabel.errors import MaskFileError
from hvlabel.inspect.compare import compare_labels
from hvlabel.inspect.info import info_of
from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest
from hvlabel.masks import read_document, read_masks
from hvlabel.prompt_files import read_prompts
from hvlabel.stages.accept import accept_file
from hvlabel.stages.convert import convert_file
from hvlabel.stages.fuse import fuse_files
from hvlabel.stages.segment import BranchRunner, segment_file
from hvtrain import LabelledImages
from hvtrain.tasks.features import write_maps

CHECKER = Path(__file__).resolve().parents[1] / "examples" / "colour_checker"


def _convert(raw, out):
    shutil.rmtree(out, ignore_errors=True)
    facts = convert_file(raw, load_descriptor("c", CHECKER / "camera.yaml"), CubeSettings(), out)
    return facts["key"]


def _segment(cube, out):
    return segment_file(BranchRunner("rgb", RgbSettings(backend="regions")), cube, out)["annotations"]


def _fuse(masks, out, cube):
    return fuse_files([masks], FusionSettings(), out, cube)["annotations"]


def _prompts(file):
    return read_prompts(file, 64, 64)


# what is called -> the paths that it takes, below the results of the demo or of this repository
READERS = {
    "open_cube": (lambda p: open_cube(p).read().sum(), ["cubes/d/vis31_00.zarr"]),
    "read_masks": (read_masks, ["labels/d/vis31_00.json"]),
    "read_document": (read_document, ["labels/d/vis31_00.json"]),
    "read_manifest": (read_manifest, ["manifest.tsv"]),
    "read_index": (read_index, ["index/labels/d/0000.json"]),
    "Layout": (lambda p: Layout(p).cube("d", "i"), ["."]),
    "LabelledImages": (lambda p: len(LabelledImages(p)), ["."]),
    "info_of": (lambda p: info_of(p).kind, ["labels/d/vis31_00.json"]),
    "compare_labels": (lambda a, b: compare_labels(a, b).text(), ["labels/d/vis31_00.json"] * 2),
    "read_prompts": (_prompts, ["labels/d/vis31_00.json"]),
    "load_config": (load_config, ["../c.yaml"]),
}


@pytest.mark.parametrize("name", READERS)
def test_text_and_path_read_the_same(demo_run, name):
    call, below = READERS[name]
    paths = [demo_run / "results" / p for p in below]
    assert call(*map(str, paths)) == call(*paths)


def test_text_and_path_write_the_same(demo_run, tmp_path):
    raw = CHECKER / "ColorChecker25.mat"
    assert describe(str(raw)) == describe(raw)
    cube = demo_run / "results/cubes/d/vis31_00.zarr"
    for call, *paths in (
        (_convert, raw, tmp_path / "a.zarr"),
        (_segment, cube, tmp_path / "rgb.json"),
        (_fuse, tmp_path / "rgb.json", tmp_path / "label.json", cube),
    ):
        assert call(*map(str, paths)) == call(*paths)
    assert np.isfinite(open_cube(str(tmp_path / "a.zarr")).values()).all()


def test_networks_and_corrections_take_text_too(tmp_path, demo_run):
    network = CHECKER.parents[1] / "resources/models/hyperfree_embedded.safetensors"
    cube = demo_run / "results/cubes/d/vis31_00.zarr"
    assert write_maps(str(cube), str(tmp_path / "maps.zarr"), str(network))
    with pytest.raises(MaskFileError, match="there is no edit to accept"):
        accept_file(str(demo_run / "results/labels/d/vis31_00.json"))
