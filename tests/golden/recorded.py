"""What is recorded of golden files, read the same way when they are made and when they are opened again."""

import contextlib
import os
from pathlib import Path

import numpy as np
import zarr
from small_networks import small_topology

from hvlabel.cache.features import open_features
from hvlabel.cache.index import read_index
from hvlabel.config import (
    CubeSettings,
    FusionSettings,
    MaterialSettings,
    PretrainSettings,
    PromptsSettings,
    RegionsSettings,
    RgbSettings,
    SequenceSettings,
    TeacherSettings,
)
from hvlabel.config.branch import NETWORK_MASKS_VERSION
from hvlabel.cube import open_cube
from hvlabel.layout import STAGES
from hvlabel.masks import areas, read_masks
from hvlabel.readers import READER_VERSION
from hvlabel.stages.segment import BranchRunner
from hvlabel.stages.teacher import TeacherRunner
from hvtrain.backbones import hyperfree

CUBE_KEY = "c" * 64  # of no cube: keys of branches follow from the key of a cube
SETTINGS = {
    "cubes": CubeSettings,
    "rgb": RgbSettings,
    "sequence": SequenceSettings,
    "material": MaterialSettings,
    "regions": RegionsSettings,
    "prompts": PromptsSettings,
    "teacher": TeacherSettings,
    "labels": FusionSettings,
    "pretrain": PretrainSettings,
}
FEW_WEIGHTS = small_topology(patch_px=4, embed_dim=4, depth=2, global_blocks=(1,))


def versions():
    """Everything that is raised by hand where results change."""
    of_stages = {stage: model.version for stage, model in SETTINGS.items()}
    return of_stages | {"networks": NETWORK_MASKS_VERSION, "readers": READER_VERSION}


def key_of(stage, given):
    """Cache key of settings as a user writes them. Paths of networks are below the working directory."""
    settings = SETTINGS[stage].model_validate(given)
    runner = TeacherRunner(settings, "cpu") if stage == "teacher" else BranchRunner(stage, settings)
    return runner.key(CUBE_KEY)


def contents(layout, names):
    """What lies in a results folder, by stage and image."""
    found = {}
    for stage in STAGES:
        read = {"cubes": _cube, "teacher": _features}.get(stage, _masks)
        entries = read_index(layout.index(stage, "d", "0000")).images
        found[stage] = {
            name: {"digest": entries[name].digest, **read(layout.output(stage, "d", name))} for name in names
        }
    return found


def _cube(path):
    cube = open_cube(path)
    values = cube.read()
    return {
        "shape": list(cube.shape),
        "dtype": str(values.dtype),
        "sums": values.sum(axis=(1, 2)).tolist(),
        "wavelengths_nm": cube.wavelengths_nm.tolist(),
        "rgb_sums": cube.rgb.sum(axis=(0, 1)).tolist(),
    }


def _features(path):
    features = open_features(path)
    height, width, _ = features.shape
    tokens = features.read(slice(0, height), slice(0, width))
    return {"shape": list(features.shape), "sum": float(tokens.astype(float).sum())}


def _masks(path):
    masks = read_masks(path)
    return {
        "areas_px": areas(masks.rles).tolist(),
        "scores": [m.score for m in masks.masks],
        "votes": [list(m.votes) for m in masks.masks],
        "suppressed_by": [s.by for s in masks.suppressed],
    }


def scales(path):
    """Shape and sum of magnitudes of the features that `hvtrain features` wrote, by scale."""
    arrays = dict(zarr.open_group(path, mode="r").arrays())
    return {name: {"shape": list(array.shape), "sum": float(np.abs(array[:]).sum())} for name, array in arrays.items()}


@contextlib.contextmanager
def few_weights():
    """Every student is as small as the golden one, whatever its settings say."""
    whole = hyperfree.topology
    hyperfree.topology = lambda settings: FEW_WEIGHTS
    try:
        yield
    finally:
        hyperfree.topology = whole


@contextlib.contextmanager
def working_directory(folder: Path):
    """Paths of the recorded configuration are below it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
