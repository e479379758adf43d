"""A backbone of milliseconds and a folder of small labelled images of one's own."""

import cv2
import numpy as np
import pytest
import tifffile
import torch
import yaml
from small_networks import small_topology
from verbs import hvtrain

from hvtrain.backbones.hyperfree import HyperFreeBackbone
from hvtrain.backbones.hypersl.backbone import HyperSlBackbone
from hvtrain.backbones.hypersl.sizes import Sizes
from hvtrain.backbones.weights import export

DRAWN = (
    "hvtrain.downstream.head_run.draw_confusion",
    "hvtrain.downstream.segmentation.draw_examples",
    "hvtrain.downstream.segmentation.draw_features",
)
SIDE = (24, 20)
N_BANDS = 6
WIDTH = 16  # of the small HyperSL


def write_backbone(path, seed=9):
    torch.manual_seed(seed)
    network = HyperFreeBackbone(small_topology(embed_dim=16, patch_px=8, window_px=4))
    export(network.state_dict(), path, network.sizes(), network.name)
    return path


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    """A small HyperFree with first weights, as a run exports one."""
    return write_backbone(tmp_path_factory.mktemp("backbone") / "tiny.safetensors")


@pytest.fixture(scope="session")
def hypersl(tmp_path_factory):
    """A small HyperSL with first weights, whose cells as a backbone are of 4 px."""
    torch.manual_seed(3)
    network = HyperSlBackbone(Sizes(width=WIDTH, depth=1, decoder_depth=1, heads=2), 32)
    path = tmp_path_factory.mktemp("hypersl") / "spectra.safetensors"
    export(network.state_dict(), path, network.sizes(), network.name)
    return path


def scene(seed):
    """(C, H, W) float32 and (H, W) uint8 of two classes that spectra tell apart; 255 at the border."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(SIDE) < 0.2).astype(np.uint8)
    truth[4:14, 3 + seed % 5 : 15] = 1
    spectra = np.array([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]], float)
    cube = spectra[truth].transpose(2, 0, 1) + rng.normal(0, 0.2, (N_BANDS, *SIDE))
    truth[:, 0] = 255
    return cube.astype("f4"), truth


@pytest.fixture(scope="session")
def own_data(tmp_path_factory, make_cube):
    """Cubes a to j, labels of nine as PNG and of the last as TIFF. Only to be read."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "labels").mkdir()
    for k, name in enumerate("abcdefghij"):
        cube, truth = scene(k)
        make_cube(folder / f"{name}.zarr", cube)
        cv2.imwrite(str(folder / "labels" / f"{name}.png"), truth)
    (folder / "labels" / "j.png").unlink()
    tifffile.imwrite(folder / "labels" / "j.tif", truth)
    return folder


@pytest.fixture
def with_pictures(monkeypatch):
    """For tests that look at the pictures of a run; t-SNE, whose import alone takes seconds, has a test of its own."""
    monkeypatch.setattr("hvtrain.downstream.plots.has_tsne", lambda: False)


@pytest.fixture(autouse=True)
def _without_pictures(request, monkeypatch):
    """Drawing takes most of the time of a run of milliseconds."""
    if "with_pictures" in request.fixturenames:
        return
    for name in (*DRAWN, "hvtrain.engine.log.draw_curves"):
        monkeypatch.setattr(name, lambda *given: None)


@pytest.fixture
def task(tmp_path):
    """Writes a task file of the own folder with some groups changed, and returns its path."""

    def write(name="own", **changes):
        tree = {
            "kind": "segment",
            "title": "two classes",
            "images": {"cubes": True, "glob": None},
            "truth": {"file": "labels/{name}.png"},
            "split": {"lists": {"train": "train.txt", "val": "val.txt", "test": "test.txt"}},
            "classes": ["plain", "thing"],
            "head": "linear",
            "input": "features",
            "recipe": {"steps": 6, "batch_images": 3, "warmup_steps": 1, "validate_every": 2, "log_every": 1},
        }
        for part, names in (("train", "abcde"), ("val", "f"), ("test", "ghi")):
            (tmp_path / f"{part}.txt").write_text("\n".join(names) + "\n")
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree | changes))
        return path

    return write


@pytest.fixture
def adapt(own_data, backbone, tmp_path):
    """Runs `hvtrain adapt` on the own folder."""

    def run(task, *options, data=own_data, source=backbone, results=tmp_path / "results"):
        with_backbone = ("--backbone", source) if source else ()
        with_data = ("--data", data) if data else ()
        shared = ("--results", results, "--threads", 1, "--device", "cpu")
        return hvtrain("adapt", task, *with_backbone, *with_data, *shared, *options)

    return run
