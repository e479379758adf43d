"""Tracking end to end: an object among others that colours cannot tell from it."""

import json
import shutil

import numpy as np
import pytest
import yaml
from verbs import hvtrain

from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.sequences import moving_object, write_sequence
from hvtrain.backbones.table import BACKBONES
from hvtrain.downstream.adapt import open_file
from hvtrain.downstream.contract import Choice
from hvtrain.downstream.frozen import load_frozen
from hvtrain.downstream.place import place_in
from hvtrain.downstream.sequences import BOXES_FILE, read_boxes
from hvtrain.downstream.task_file import task_path
from hvtrain.downstream.track_heads import TRACK_HEADS
from hvtrain.downstream.tracking import Tracking

from .light import ROW, Bins, write_backbone

CAMERA = CAMERAS["vnir61"]


@pytest.fixture(autouse=True)
def _row(monkeypatch):
    monkeypatch.setitem(BACKBONES, Bins.name, ROW)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six sequences of eight frames. Only to be read."""
    root = tmp_path_factory.mktemp("moving")
    for k in range(6):
        write_sequence(root / f"s{k}", CAMERA, ".tif", moving_object(CAMERA, 64, 8, k))
    return root


@pytest.fixture
def task(tmp_path):
    def write(**changes):
        descriptor = CAMERA.descriptor.model_dump(mode="json", exclude_defaults=True)
        tree = {
            "kind": "tracking",
            "title": "moving objects",
            "cameras": {"own": {"descriptor": descriptor, "frames": "*.tif"}},
            "shares": {"train": 0.5, "val": 0.0, "test": 0.5},
            "width": 16,
            "head": "center",
            "input": "features",
            "recipe": {"steps": 10, "batch_images": 4, "lr": 1e-3, "warmup_steps": 1, "validate_every": 10},
        }
        path = tmp_path / "moving.yaml"
        path.write_text(yaml.safe_dump(tree | changes))
        return path

    return write


@pytest.fixture
def adapt(data, tmp_path):
    def run(task, *options, source=None, data=data):
        backbone = source or write_backbone(tmp_path / "bins.safetensors")
        shared = ("--results", tmp_path / "results", "--threads", 1, "--device", "cpu")
        given = ("--data", data) if data else ()
        return hvtrain("adapt", task, "--backbone", backbone, *given, *shared, *options)

    return run


def facts_of(said):
    assert said.status == 0, said.err
    folder = said.out.splitlines()[-1].split(": ")[0]
    with open(f"{folder}/run.json") as file:
        return folder, json.load(file)


def test_from_frames_to_scores_and_boxes(adapt, task, data, tmp_path):
    folder, facts = facts_of(adapt(task()))
    scores = facts["scores"]["test"]
    assert scores.keys() == {"auc", "dp20", "norm_dp20", "stay_auc", "stay_dp20"}
    assert 0 <= scores["auc"] < 20 / 21
    assert facts["notes"]["sequences"] == {"train": 3, "val": 0, "test": 3}
    said = hvtrain("predict", folder, data / "s1", tmp_path / "boxes.txt")
    assert said.status == 0, said.err
    assert "8 boxes, AUC 0." in said.out
    boxes = read_boxes(tmp_path / "boxes.txt")
    assert boxes.shape == (8, 4)
    np.testing.assert_array_equal(boxes[0], read_boxes(data / "s1" / BOXES_FILE)[0])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= 64).all()


@pytest.mark.parametrize(
    ("head", "terms"), [("xcorr", ["score", "overlap"]), ("car", ["score", "overlap", "centreness"])]
)
def test_other_heads_learn_follow_and_predict_alike(adapt, task, data, tmp_path, head, terms):
    follow = {"penalty": 0.1, "window": 0.3, "rate": 0.4}
    folder, facts = facts_of(adapt(task(follow=follow), "--head", head, "--steps", 4))
    assert facts["scores"]["test"].keys() >= {"auc", "dp20", "stay_auc"}
    with open(f"{folder}/metrics.csv") as file:
        assert set(terms) <= set(file.readline().strip().split(","))
    with np.load(f"{folder}/tables.npz") as tables:
        scored = {name: tables[name] for name in tables if (data / name).is_dir()}
    assert len(scored) == 3
    for name, boxes in scored.items():
        said = hvtrain("predict", folder, data / name, tmp_path / "boxes.txt")
        assert said.status == 0, said.err
        np.testing.assert_allclose(read_boxes(tmp_path / "boxes.txt"), boxes, atol=0.006)


def test_pairs_of_two_sequences_are_drawn_for_xcorr_only(task, data, tmp_path):
    settings = open_file(task(pairs={"negative": 0.5}))[1]
    backbone = load_frozen(str(write_backbone(tmp_path / "bins.safetensors")))
    place = place_in(tmp_path / "results")("moving", data)
    drawn = {head: Tracking(settings, place, backbone, Choice(head, "features")).batch(0) for head in TRACK_HEADS}
    assert drawn["center"].is_same.all()
    assert drawn["car"].is_same.all()
    together = [Tracking(settings, place, backbone, Choice("xcorr", "features", seed=k)).batch(1) for k in range(5)]
    n_negative = sum(int((~batch.is_same).sum()) for batch in together)
    assert 2 < n_negative < 18  # of 20 pairs
    np.testing.assert_array_equal(drawn["center"].search, drawn["car"].search)


def test_a_folder_with_the_first_box_alone_is_followed_too(adapt, task, data, tmp_path):
    folder, _ = facts_of(adapt(task(), "--steps", "1"))
    frames = tmp_path / "unknown"
    frames.mkdir()
    for path in sorted((data / "s2").glob("*.tif"))[:3]:
        (frames / path.name).symlink_to(path)
    (frames / BOXES_FILE).write_text((data / "s2" / BOXES_FILE).read_text().splitlines()[0] + "\n")
    said = hvtrain("predict", folder, frames, tmp_path / "boxes.txt")
    assert said.status == 0, said.err
    assert said.out.strip().endswith(": 3 boxes")


def test_the_first_box_can_be_given(adapt, task, data, tmp_path):
    folder, _ = facts_of(adapt(task(), "--steps", "1"))
    said = hvtrain("predict", folder, data / "s2", tmp_path / "boxes.txt", "--box", 3, 4, 12, 10)
    assert said.status == 0, said.err
    assert read_boxes(tmp_path / "boxes.txt")[0].tolist() == [3, 4, 12, 10]
    said = hvtrain("predict", folder, data / "s2", tmp_path / "boxes.txt", "--box", 300, 4, 12, 10)
    assert "--box: the first box 300 4 12 10 lies outside the frame of 64 x 64 px" in said.err


def test_pysots_way_counts_the_given_frame(adapt, task):
    _, ours = facts_of(adapt(task(), "--steps", "1"))
    _, theirs = facts_of(adapt(task(pysot_compat=True), "--steps", "1"))
    assert theirs["scores"]["test"]["stay_auc"] > ours["scores"]["test"]["stay_auc"]


@pytest.mark.parametrize(
    ("changes", "options", "sentence"),
    [
        ({}, ("--head", "linear"), "head 'linear' of a tracking task is unknown; there are: center, xcorr, car"),
        ({}, ("--input", "cube"), "choose features or features-rgb"),
        ({"shares": {"train": 1.0}}, (), "no sequence is left for test"),
        ({"shares": {"train": 0.7}}, (), "add up to 1"),
        ({"width": 12}, (), "no multiple of 8"),
        ({"follow": {"penalty": -1, "window": 0.4, "rate": 0.3}}, (), "follow.penalty"),
        ({"follow": {"window": 0.4, "rate": 0.3}}, (), "follow.penalty: Field required"),
        (
            {"follow": {"penalty": 0.1, "window": 0.4, "rate": 0.3}},
            (),
            "`follow` of a task file is for heads xcorr, car",
        ),
        ({"pairs": {"negative": 1}}, (), "pairs.negative"),
        ({"pairs": {"scale": 50}}, (), "pairs.scale"),
        ({"pairs": {"shift": float("inf")}}, (), "pairs.shift"),
        ({"factor": 1e6}, (), "factor"),
        ({"parts": {"train": "a"}}, (), "needs both train and test"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(adapt, task, changes, options, sentence):
    said = adapt(task(**changes), *options)
    assert said.status == 2
    assert sentence in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: (s / BOXES_FILE).write_text("20 20 9 9\n" + "0 0 0 0\n" * 7), "no frame but the first has a box"),
        (
            lambda s: (s / BOXES_FILE).write_text("20 20 9 9\n" + "1 1 9e8 9\n" * 7),
            "box 2 is 9e+08 x 9 px, the frame 64 x",
        ),
        (lambda s: (s / "0002.tif").write_bytes(b"no frame"), "0002.tif"),
        (
            lambda s: CAMERA.write(s / "0002.tif", np.zeros((61, 32, 40)), None),
            "0002.tif: is 32 x 40 px, frames before it",
        ),
    ],
)
def test_a_damaged_sequence_is_one_sentence(adapt, task, data, tmp_path, change, sentence):
    copy = shutil.copytree(data, tmp_path / "copy")
    for sequence in copy.iterdir():
        change(sequence)
    said = adapt(task(), data=copy)
    assert said.status == 2
    assert sentence in said.err
    assert "Traceback" not in said.err


def test_sam_is_no_backbone_of_a_tracking_head(adapt, task):
    """Its photographs are not what a crop of measured values is."""
    said = adapt(task(), "--input", "features-rgb", source="sam:random:0")
    assert said.status == 2
    assert "`hvtrain predict sam` follows without a head" in said.err


def test_few_labels_are_few_sequences(adapt, task):
    _, facts = facts_of(adapt(task(), "--steps", "1", "--labels", 40))
    assert len(facts["notes"]["trained_on"]) == 1  # of three
    assert "trained_on" not in facts_of(adapt(task(), "--steps", "1"))[1]["notes"]
    assert "--labels 0 is no share" in adapt(task(), "--labels", 0).err


def test_without_data_and_for_another_ending_there_is_one_sentence(adapt, task, data, tmp_path):
    said = adapt(task(), data=None)
    assert said.status == 2
    assert "where are its sequences? give their folder with --data" in said.err
    folder, _ = facts_of(adapt(task(), "--steps", "1"))
    said = hvtrain("predict", folder, data / "s1", tmp_path / "boxes.png")
    assert said.status == 2
    assert "written as .txt" in said.err


def test_the_shipped_task_names_three_cameras_and_the_benchmarks_parts():
    _, settings = open_file(task_path("hot2023"))
    assert {name: camera.descriptor for name, camera in settings.cameras.items()} == {
        "vis": "hotvis",
        "nir": "hotnir",
        "rednir": "hotrednir",
    }
    assert settings.parts == {"train": "training", "test": "validation"}
