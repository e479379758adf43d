"""Runs of the engine: what is encoded once, what stays frozen, what is resumed, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from verbs import hvtrain

from hvlabel.cache.publish import publish_bytes
from hvlabel.errors import TrainingError, WeightsError
from hvtrain.downstream import adapt as engine
from hvtrain.downstream import head_run
from hvtrain.downstream.adapt import Request
from hvtrain.downstream.feature_cache import FeatureCache
from hvtrain.downstream.frozen import Frozen, load_frozen, weights_sha256
from hvtrain.downstream.head_run import HeadFiles
from hvtrain.downstream.place import place_in
from hvtrain.engine.run_folder import read_identity

from .conftest import write_backbone


class KilledError(Exception):
    """What a test ends a run with."""


def folder_of(said):
    assert said.status == 0, said.err
    return said.out.splitlines()[-1].split(": ")[0]


@pytest.fixture
def encoded(monkeypatch):
    """Counts how often a backbone looks at an image."""
    calls = []
    original = Frozen.maps
    monkeypatch.setattr(Frozen, "maps", lambda self, *given: calls.append(1) or original(self, *given))
    return calls


def test_the_second_head_encodes_nothing(task, adapt, encoded):
    folder_of(adapt(task()))
    # nine images, and the five of the training part mirrored
    assert len(encoded) == 9 + 5
    folder_of(adapt(task(), "--head", "ladder"))
    folder_of(adapt(task(), "--head", "ladder", "--input", "features+cube", "--seed", 3))
    assert len(encoded) == 14


def test_a_damaged_or_foreign_entry_of_the_cache_is_made_again(task, adapt, encoded, tmp_path):
    folder_of(adapt(task()))
    entries = sorted((tmp_path / "results/downstream/features").rglob("*.safetensors"))
    assert len(entries) == 14
    content = bytearray(entries[0].read_bytes())
    content[-3] ^= 1
    publish_bytes(entries[0], bytes(content))
    shutil.copy(entries[2], entries[1])  # whole, but of another image
    folder_of(adapt(task(), "--seed", 1))
    assert len(encoded) == 16


def test_the_backbone_is_what_it_was(task, own_data, backbone, tmp_path, monkeypatch):
    before = load_frozen(str(backbone))
    place = place_in(tmp_path / "results")
    folder = engine.adapt(Request(str(task()), str(backbone), data=own_data), place, device="cpu", threads=1)
    assert (
        read_identity(HeadFiles(folder))["facts"]["backbone_sha256"] == before.sha256 == weights_sha256(before.network)
    )
    assert not any(p.requires_grad for p in before.network.parameters())

    def moving(source, seed):
        loaded = load_frozen(source, seed)
        next(loaded.network.parameters()).data += 1
        return loaded

    monkeypatch.setattr(engine, "load_frozen", moving)
    with pytest.raises(TrainingError, match="its weights changed during the training of a head"):
        engine.adapt(Request(str(task()), str(backbone), data=own_data, seed=1), place, device="cpu", threads=1)


def test_a_head_learns_two_classes_and_scores_are_of_the_best_step(task, adapt, tmp_path):
    recipe = {"steps": 40, "lr": 0.05, "validate_every": 4}
    folder = tmp_path / folder_of(adapt(task(pooled_px=1, recipe=recipe), "--input", "cube", source=None))
    facts = json.loads((folder / "run.json").read_bytes())
    rows = json.loads((folder / "validation.json").read_bytes())
    best = max(row["score"] for row in rows)
    assert [row["score"] for row in rows if row["step"] == facts["best_step"]] == [best]
    assert best > rows[0]["score"]
    assert facts["scores"]["test"]["acc_micro"] > 0.9


@pytest.mark.usefixtures("with_pictures")
def test_what_a_run_shows(task, adapt, tmp_path):
    folder = tmp_path / folder_of(adapt(task(), "--steps", 1))
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {"curves.png", "confusion.png", "examples.png", "features.png"}


@pytest.mark.parametrize("head", ["ladder", "linear"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(task, adapt, tmp_path, monkeypatch, head):
    """Also with dropout: what is drawn in a step depends on the step."""
    whole = folder_of(adapt(task(), "--head", head, results=tmp_path / "whole"))
    play = head_run.Loop.play
    stretches = []

    def killed(self, *given, until, **more):
        play(self, *given, until=until, **more)
        stretches.append(until)
        if until == 4:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(head_run.Loop, "play", killed)
        with pytest.raises(KilledError):
            adapt(task(), "--head", head)
    assert stretches == [2, 4]
    resumed = folder_of(adapt(task(), "--head", head))
    ours, theirs = (safetensors.torch.load_file(f"{folder}/head.safetensors") for folder in (resumed, whole))
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor)
    ours, theirs = (Path(folder, "validation.json").read_text() for folder in (resumed, whole))
    assert ours == theirs


def test_a_finished_run_stays_and_one_of_other_labels_is_moved_aside(task, adapt, tmp_path):
    first = adapt(task())
    head = tmp_path / folder_of(first) / "head.safetensors"
    written = head.stat().st_mtime_ns
    assert folder_of(adapt(task())) == folder_of(first)
    assert head.stat().st_mtime_ns == written
    mapped = {"file": "labels/{name}.png", "mapping": {1: 0, 0: 1}}
    said = adapt(task(truth=mapped))
    assert "held a run of other settings or labels; moved to" in said.err
    assert head.stat().st_mtime_ns != written


def test_few_labels_are_used_where_few_are_asked_for(task, adapt, tmp_path):
    shares = {}
    for per_cent in (5, 40, 100):
        facts = json.loads((tmp_path / folder_of(adapt(task(), "--labels", per_cent)) / "run.json").read_bytes())
        shares[per_cent] = (len(facts["notes"]["trained_on"]), facts["notes"]["labelled_px"])
    n_labelled = shares[100][1]
    assert [n for n, _ in shares.values()] == [1, 2, 5]
    assert shares[5][1] == pytest.approx(0.05 * n_labelled, rel=0.3)  # a quarter of one image's pixels
    assert shares[40][1] == pytest.approx(0.4 * n_labelled, rel=0.01)


def test_a_head_refuses_every_backbone_but_its_own(task, adapt, own_data, tmp_path):
    folder = tmp_path / folder_of(adapt(task()))
    other = write_backbone(tmp_path / "other.safetensors", seed=1)
    said = hvtrain("predict", folder, own_data / "a.zarr", tmp_path / "a.png", "--backbone", other)
    assert said.status == 2
    assert "is a head for the backbone with sha256" in said.err
    assert not (tmp_path / "a.png").exists()
    with pytest.raises(WeightsError, match="no such head"):
        hvtrain_predict(tmp_path / "nothing")


def hvtrain_predict(head):
    from hvtrain.downstream.predict import load_finished

    return load_finished(head)


def test_an_untrained_backbone_is_the_same_network_with_other_weights(backbone):
    trained, one, two = (
        load_frozen(source, seed)
        for source, seed in ((str(backbone), 0), (f"untrained:{backbone}", 0), (f"untrained:{backbone}", 1))
    )
    assert len({trained.sha256, one.sha256, two.sha256}) == 3
    assert one.sha256 == load_frozen(f"untrained:{backbone}", 0).sha256
    assert one.name == "untrained-tiny"
    assert one.network.sizes() == trained.network.sizes()


def test_maps_of_a_mirrored_image_come_from_the_mirrored_image(task, own_data, backbone, tmp_path):
    """A flip of the maps would be another thing: positions are not symmetric."""
    from hvtrain.downstream.images import TaskImages
    from hvtrain.downstream.task_file import ImagesSettings, TruthSettings

    place = place_in(tmp_path / "results")("own", own_data)
    images = TaskImages(ImagesSettings(cubes=True), TruthSettings(file="labels/{name}.png"), place).prepared(["a"])
    frozen = load_frozen(str(backbone))
    cache = FeatureCache(frozen, tmp_path / "cache", "features")
    cube = images["a"].cube
    expected = frozen.maps(cube.values()[:, :, ::-1], cube.wavelengths_nm.tolist())
    for ours, direct in zip(cache.maps(images["a"], flipped=True), expected, strict=True):
        np.testing.assert_array_equal(ours, direct.half())
    assert cache.n_encoded == 1
