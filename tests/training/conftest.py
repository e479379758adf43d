"""A small labelled results folder: two cameras to train on, one never seen, with features of an untrained teacher."""

from pathlib import Path

import pytest

from hvlabel.branches.table import CORE_BRANCHES
from hvlabel.cache.index import publish_scan
from hvlabel.config import PretrainSettings
from hvlabel.config.tree import parse_config
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.files import write_scenes
from hvlabel.layout import Layout
from hvlabel.manifest import scan
from hvlabel.stages.convert import CubeStage
from hvlabel.stages.fuse import FuseStage
from hvlabel.stages.segment import BranchRunner, BranchStage
from hvlabel.stages.shard import run_shard
from hvlabel.stages.teacher import TeacherRunner, TeacherStage

SCENES = {"vis": ("vis31", 4), "mosaic": ("mosaic16", 4), "new": ("nir25", 2)}


@pytest.fixture(scope="session")
def config(tmp_path_factory, repository):
    """Configuration of the folder."""
    tree = {
        "results": str(tmp_path_factory.mktemp("trainset") / "results"),
        "datasets": {n: {"demo": c, "demo_scenes": k, "demo_size_px": 96} for n, (c, k) in SCENES.items()},
        "sequence": {"max_frames": 2},
        "teacher": {
            "backend": "sam2",
            "tile_px": 64,
            "sam2": {"config": str(repository / "resources/models/sam2_nano.yaml"), "checkpoint": "random:1"},
        },
    }
    return parse_config(tree, "test")


@pytest.fixture(scope="session")
def layout(config, tmp_path_factory):
    """The folder, every stage run. Read-only: tests that change files copy it first."""
    layout = Layout(Path(config.results))
    for name, dataset in config.datasets.items():
        write_scenes(name, dataset, layout.root)
    found = scan(config)
    publish_scan(layout, found)
    teacher = TeacherRunner(config.teacher, "cpu")
    for dataset, shard in found.shards():
        images = [i for i in found.images if i.dataset == dataset]
        camera = CAMERAS[config.datasets[dataset].demo]
        run_shard(CubeStage(layout, camera.descriptor, config.cube), images, layout, dataset, shard)
        for branch in CORE_BRANCHES:
            run_shard(
                BranchStage(layout, BranchRunner(branch, getattr(config, branch)), dataset, shard),
                images,
                layout,
                dataset,
                shard,
            )
        run_shard(FuseStage(layout, config.fusion, dataset, shard), images, layout, dataset, shard)
        run_shard(TeacherStage(layout, teacher, dataset, shard), images, layout, dataset, shard)
    return layout


def tiny(**changes):
    """Settings of a run of seconds; groups are given as dicts."""
    tree = {
        "student": {"size": "small", "crop_px": 64},
        "data": {"unseen": ["new"], "masks_per_image": 3, "holdout_share": 0.25},
        "loss": {"dense": 0.3, "balanced": 0.2, "shortcut": 1.0},
        "optimiser": {"steps": 4, "batch_images": 2, "warmup_steps": 2, "ema": 0.5, "lr": 1e-3},
        "hardware": {
            "workers": 0,
            "threads": 1,
            "log_every": 1,
            "checkpoint_every": 2,
            "picture_every": 3,
            "accelerator": "cpu",
        },
        "evaluation": {"max_images": 2, "max_masks": 4, "probe_images": 2},
    }
    for group, values in changes.items():
        tree[group] = {**tree.get(group, {}), **values} if isinstance(values, dict) else values
    return PretrainSettings.model_validate(tree)
