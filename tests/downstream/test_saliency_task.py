"""Salient objects end to end, on generated scenes in the file form of HS-SOD."""

import json
import shutil

import cv2
import h5py
import numpy as np
import pytest
import yaml
from verbs import hvtrain

from hvlabel.demo.cameras import MATLAB_HEADER, MATLAB_MARK, DemoCamera
from hvlabel.demo.salient import salient_scene
from hvlabel.descriptors import load_descriptor
from hvlabel.errors import ConfigError
from hvtrain.backbones.table import BACKBONES
from hvtrain.downstream.adapt import open_file
from hvtrain.downstream.saliency_file import parts_of
from hvtrain.downstream.splits import read_list
from hvtrain.downstream.task_file import task_path

from .light import ROW, Bins, write_backbone

N_SCENES, SIZE_PX = 8, 48


@pytest.fixture(autouse=True)
def _row(monkeypatch):
    monkeypatch.setitem(BACKBONES, Bins.name, ROW)


@pytest.fixture(scope="module")
def hs_sod(tmp_path_factory):
    """hyperspectral/, color/ and ground-truth/ as the data set has them, with few small scenes."""
    root = tmp_path_factory.mktemp("hs_sod")
    descriptor = load_descriptor("hs_sod", "hs_sod")
    camera = DemoCamera(np.array(descriptor.known_wavelengths_nm()), 8.0, descriptor, lambda *given: None)
    for folder in ("hyperspectral", "color", "ground-truth"):
        (root / folder).mkdir()
    for k in range(N_SCENES):
        scene, name = salient_scene(camera, SIZE_PX, k), f"{k + 1:04d}"
        path = root / "hyperspectral" / f"{name}.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            # 12-bit counts, (C, W, H) through HDF5; larger than the picture's strip so that chunks matter
            stored = np.clip(scene.signal * 2000, 0, 4095).transpose(0, 2, 1).astype(np.float32)
            file.create_dataset("hypercube", data=stored, chunks=(1, *stored.shape[1:]))
            file["hypercube"].attrs["MATLAB_class"] = np.bytes_("single")
        with path.open("r+b") as file:
            file.write(MATLAB_HEADER.ljust(124) + MATLAB_MARK)
        cv2.imwrite(str(root / "color" / f"{name}.jpg"), scene.companion[:, :, ::-1])
        cv2.imwrite(str(root / "ground-truth" / f"{name}.jpg"), scene.truth.astype(np.uint8) * 255)
    return root


@pytest.fixture
def task(tmp_path):
    """Writes the shipped task with few steps and other groups."""

    def write(**changes):
        tree = yaml.safe_load(task_path("hs_sod").read_text())
        tree["split"] = {"lists": {"train": "train.csv", "test": "test.csv"}}
        tree["recipe"] = {"steps": 12, "batch_images": 4, "lr": 1e-3, "warmup_steps": 1, "validate_every": 12}
        tree["decoder"] = "random"
        (tmp_path / "train.csv").write_text("".join(f"{k:04d}.jpg\n" for k in range(1, 7)))
        (tmp_path / "test.csv").write_text("0007.jpg\n0008.jpg\n")
        path = tmp_path / "sod.yaml"
        path.write_text(yaml.safe_dump(tree | changes))
        return path

    return write


@pytest.fixture
def adapt(hs_sod, tmp_path):
    def run(task, *options, data=hs_sod):
        backbone = write_backbone(tmp_path / "bins.safetensors", side_px=48)
        shared = ("--results", tmp_path / "results", "--threads", 1, "--device", "cpu")
        return hvtrain("adapt", task, "--backbone", backbone, "--data", data, *shared, *options)

    return run


def facts_of(said):
    assert said.status == 0, said.err
    folder = said.out.splitlines()[-1].split(": ")[0]
    with open(f"{folder}/run.json") as file:
        return folder, json.load(file)


def test_from_raw_files_to_scores_and_a_map(adapt, task, hs_sod, tmp_path):
    folder, facts = facts_of(adapt(task()))
    scores = facts["scores"]["test"]
    assert scores.keys() == {"mae", "max_f", "s", "max_e", "auc", "cc", "mae_of_nothing"}
    assert facts["notes"] == {"images": {"train": 6, "val": 0, "test": 2}, "scores": "smn", "decoder": "random weights"}
    share = np.mean([cv2.imread(str(hs_sod / f"ground-truth/000{k}.jpg"), 0).mean() / 255 for k in (7, 8)])
    assert scores["mae_of_nothing"] == pytest.approx(share)
    cube = next((tmp_path / "results/downstream").rglob("*0007.zarr"))
    said = hvtrain("predict", folder, cube, tmp_path / "map.png")
    assert said.status == 0, said.err
    assert "48 x 48 px" in said.out
    written = cv2.imread(str(tmp_path / "map.png"), 0)
    strip = cv2.imread(f"{folder}/example_0007.png", 0)
    np.testing.assert_array_equal(strip[:, 2 * SIZE_PX :], written)  # picture, truth, map


@pytest.mark.parametrize("chosen", ["features", "features-rgb"])
def test_parts_of_images_are_learnt_from_too(adapt, task, chosen):
    changes = {"augment": {"flip": 0.5, "crop": 0.6, "gain_sd": 0.03}}
    _, facts = facts_of(adapt(task(**changes), "--steps", "3", "--input", chosen))
    assert facts["settings"]["augment"] == {"crop": 0.6, "gain_sd": 0.03}
    assert 0 <= facts["scores"]["test"]["max_f"] <= 1


@pytest.mark.slow
def test_a_spectrum_finds_what_its_colours_hide(adapt, task):
    steps = ("--steps", "150")
    _, of_cube = facts_of(adapt(task(), *steps))
    _, of_rgb = facts_of(adapt(task(), *steps, "--input", "features-rgb"))
    assert of_cube["scores"]["test"]["auc"] > of_rgb["scores"]["test"]["auc"] + 0.1


def test_the_decoder_starts_from_sams_weights_where_they_are(adapt, task, sam_weights, monkeypatch):
    monkeypatch.setenv("HVLABEL_MODELS", str(sam_weights.parent))
    _, facts = facts_of(adapt(task(decoder="sam"), "--steps", "1"))
    assert facts["notes"]["decoder"] == "SAM's weights"


def test_each_image_is_tested_once_over_the_folds(task):
    _, settings = open_file(task(folds=3))
    names = [f"{k:04d}" for k in range(1, 9)]
    tested = [parts_of(names, settings, seed)["test"] for seed in range(3)]
    assert sorted(name for fold in tested for name in fold) == names
    assert [len(fold) for fold in tested] == [3, 3, 2]
    parts = parts_of(names, settings, 4)
    assert parts["test"] == tested[1]
    assert sorted(parts["train"] + parts["test"]) == names
    with pytest.raises(ConfigError, match="folds: 3 of 2 images"):
        parts_of(names[:2], settings, 0)


def test_the_shipped_split_is_the_published_one():
    _, settings = open_file(task_path("hs_sod"))
    lists = {part: read_list(task_path("hs_sod").parent / file) for part, file in settings.split.lists.items()}
    assert {part: len(names) for part, names in lists.items()} == {"train": 48, "test": 12}
    assert not set(lists["train"]) & set(lists["test"])


@pytest.mark.parametrize(
    ("changes", "options", "sentence"),
    [
        ({}, ("--head", "linear"), "head 'linear' of a saliency task is unknown; there is: sam"),
        ({}, ("--input", "cube"), "choose features or features-rgb"),
        ({"decoder": "sam"}, (), "SAM's weights are absent"),
        ({"truth": {"file": "no/{name}.jpg"}}, (), "no truth no/0001.jpg"),
        ({"variant": "sum"}, (), "variant"),
        ({"truth": {"file": "{stem}.jpg"}}, (), "may use {name} only"),
        ({}, ("--labels", 0), "--labels 0 is no share"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(adapt, task, changes, options, sentence):
    said = adapt(task(**changes), *options)
    assert said.status == 2
    assert sentence in said.err
    assert "Traceback" not in said.err


def test_a_truth_of_another_size_or_a_damaged_one_is_one_sentence(adapt, task, hs_sod, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(hs_sod, copy)
    truth = copy / "ground-truth" / "0003.jpg"
    cv2.imwrite(str(truth), np.zeros((10, 12), np.uint8))
    said = adapt(task(), data=copy)
    assert said.status == 2
    assert "truth of 0003 is 10 x 12 px, its cube 48 x 48 px" in said.err
    truth.write_bytes(b"no picture")
    assert "not a readable picture" in adapt(task(), data=copy).err


@pytest.mark.parametrize(
    ("value", "sentence"), [(1, "give 255 for the object, 0 elsewhere"), (255, "give 0 beside the object")]
)
def test_truths_without_an_object_or_all_object_are_refused(adapt, task, hs_sod, tmp_path, value, sentence):
    copy = tmp_path / "copy"
    shutil.copytree(hs_sod, copy)
    for path in (copy / "ground-truth").glob("*.jpg"):
        cv2.imwrite(str(path), np.full((SIZE_PX, SIZE_PX), value, np.uint8))
    said = adapt(task(), data=copy)
    assert said.status == 2
    assert sentence in said.err


def test_few_labels_are_few_images(adapt, task):
    _, facts = facts_of(adapt(task(), "--steps", "1", "--labels", 34))
    assert len(facts["notes"]["trained_on"]) == 2  # of six


def test_a_map_is_written_as_png(adapt, task, tmp_path):
    folder, _ = facts_of(adapt(task(), "--steps", "1"))
    cube = next((tmp_path / "results/downstream").rglob("*0001.zarr"))
    said = hvtrain("predict", folder, cube, tmp_path / "map.tif")
    assert said.status == 2
    assert "written as .png" in said.err
