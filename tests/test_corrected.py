"""Labels that people correct: kept by every run once accepted, moved aside and never deleted before."""

import json
import shutil

import numpy as np
import pytest
from verbs import hvlabel

from hvlabel.cache.index import read_index
from hvlabel.errors import MaskFileError
from hvlabel.layout import Layout
from hvlabel.masks import decode, encode, read_document, read_masks
from hvlabel.stages.accept import accept_file
from hvtrain.data.labelled_images import LabelledImages

NAMES = ("vis31_00", "vis31_01")


@pytest.fixture
def layout(demo_run, tmp_path):
    """A copy of a finished run of two small demo images, to be spoilt."""
    shutil.copytree(demo_run, tmp_path / "run")
    return Layout(tmp_path / "run" / "results")


def edit(path, change):
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    return document


def drop_first(document):
    del document["annotations"][0]


def fuse(layout, **settings):
    given = ["--settings", json.dumps(settings)] if settings else []
    status, out, err = hvlabel("fuse", "--shard", "d/0000", *given, "--results", layout.root)
    assert status == 0
    return out + err


def entry(layout, name, stage="labels"):
    return read_index(layout.index(stage, "d", "0000")).images[name]


def test_an_edit_that_nobody_accepted_is_reported_and_moved_aside(layout):
    path = layout.label("d", NAMES[0])
    made = path.read_bytes()
    edit(path, drop_first)
    edited = path.read_bytes()
    status, out, _ = hvlabel("verify", "--results", layout.root)
    assert status == 1
    assert f"hvlabel accept {path}" in out
    assert out.count(str(path) + ":") == 1
    said = fuse(layout)
    assert "1 made, 1 kept" in said
    assert "moved to" in said
    assert read_document(path)["annotations"] == json.loads(made)["annotations"]
    aside = layout.aside / "labels" / "d" / path.name
    assert aside.read_bytes() == edited
    edit(path, lambda d: d["annotations"].clear())
    assert hvlabel("verify", "--repair", "--results", layout.root)[0] == 0
    assert not path.exists()
    assert json.loads(aside.with_name(f"{path.stem}-2.json").read_bytes())["annotations"] == []  # none is overwritten
    assert aside.read_bytes() == edited


def test_an_accepted_correction_is_kept_by_every_run_and_used(layout):
    path = layout.label("d", NAMES[0])
    before = read_document(path)
    edit(path, drop_first)
    status, out, _ = hvlabel("accept", path)
    assert (status, f"{path}: {len(before['annotations']) - 1} masks" in out) == (0, True)
    document = read_document(path)
    assert document["provenance"]["corrected"] == {"replaces": before["provenance"]["content_sha256"]}
    assert [a["id"] for a in document["annotations"]] == list(range(len(before["annotations"]) - 1))
    kept = path.read_bytes()
    assert entry(layout, NAMES[0]).digest == document["provenance"]["content_sha256"]
    assert entry(layout, NAMES[0]).counts["masks"] == len(document["annotations"])
    assert "1 made, 1 kept" in fuse(layout, iou_threshold=0.5)  # the other one is made anew
    assert path.read_bytes() == kept
    status, out, _ = hvlabel("verify", "--deep", "--results", layout.root)
    assert status == 0
    assert f"{path}: corrected by hand" in out
    sample = LabelledImages(str(layout.root), max_masks=1000)[0]
    assert len(sample.masks) == len(document["annotations"])
    layout.masks("rgb", "d", NAMES[0]).unlink()  # what it was made from is not needed any more
    assert "0 failed" in fuse(layout)
    assert path.read_bytes() == kept
    # a second correction remembers what the pipeline made
    edit(path, drop_first)
    accept_file(path)
    assert read_document(path)["provenance"]["corrected"] == document["provenance"]["corrected"]


def test_suppressed_masks_follow_their_winner(layout):
    path = layout.label("d", NAMES[0])
    before = read_document(path)
    winners = [s["by"] for s in before["suppressed"]]
    gone = max(set(winners) - {None}, key=winners.count)
    edit(path, lambda d: d["annotations"].pop(gone))
    accept_file(path)
    after = read_document(path)
    for old, new in zip(before["suppressed"], after["suppressed"], strict=True):
        if old["by"] in (None, gone):
            assert (new["by"], new["iou"]) == (None, None)
        else:
            same = before["annotations"][old["by"]]["segmentation"]
            assert after["annotations"][new["by"]]["segmentation"] == same


def test_drawn_masks_of_every_coco_form(layout):
    path = layout.label("d", NAMES[0])
    box = np.zeros((64, 64), bool)
    box[10:20, 5:25] = True
    column = box.T.ravel()  # COCO counts down the columns
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[False], column, [True]]).astype(int)) != 0), prepend=0)
    rle = encode(box)
    added = [
        {"segmentation": [[5, 10, 25, 10, 25, 20, 5, 20]]},
        {"segmentation": {"size": [64, 64], "counts": np.append(runs, 0 if runs.sum() == 4096 else 4096 - runs.sum()).tolist()}},
        {"segmentation": {"size": [64, 64], "counts": rle["counts"].decode()}, "score": 0.25},
    ]  # fmt: skip
    n = len(read_masks(path))
    edit(path, lambda d: d["annotations"].extend(added))
    assert accept_file(path) == n + 3
    document = read_document(path)
    for annotation, mask in zip(document["annotations"][n:], read_masks(path).masks[n:], strict=True):
        np.testing.assert_array_equal(decode(mask.rle), box)
        assert (annotation["area"], annotation["bbox"]) == (200, [5, 10, 20, 10])
    assert document["annotations"][-1]["score"] == 0.25
    union = np.logical_or.reduce([decode(m.rle) for m in read_masks(path).masks])
    assert document["provenance"]["foreground_share"] == pytest.approx(union.mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: None, "no edit to accept"),
        (lambda d: d["annotations"][1].pop("segmentation"), "annotation 1 has no segmentation"),
        (lambda d: d["annotations"][0]["segmentation"].update(size=[9, 9]), "annotation 0 is of"),
        (lambda d: d["annotations"][0]["segmentation"].update(counts="!!"), "annotation 0"),
        (lambda d: d["annotations"][0].update(segmentation=7), "neither an RLE nor polygons"),
        (lambda d: d["annotations"][0]["segmentation"].update(counts=[4096]), "is empty"),
        (lambda d: d.update(annotations={}), "no list"),
        (lambda d: d["annotations"][0].update(score="0.9"), "score of annotation 0 is '0.9', expected a number"),
        (lambda d: d["annotations"][0].update(predicted_iou=float("nan")), "predicted_iou of annotation 0"),
        (lambda d: d.update(suppressed=[3]), "suppressed is no list of masks"),
        (lambda d: d["annotations"][0]["segmentation"].update(counts=[100, 2000]), "do not fill the image"),
        (lambda d: d["annotations"][0]["segmentation"].update(counts=[100, 4100]), "do not fill the image"),
        (lambda d: d["annotations"][0].update(segmentation=[[5, 5, 20, 5, 20, 20, 7]]), "no three points"),
        (lambda d: d["image"].update(height=0), "expected positive sizes"),
        (lambda d: d["image"].pop("height"), "no height"),
    ],
)
def test_what_is_no_correction_is_one_sentence_and_changes_nothing(layout, change, message):
    path = layout.label("d", NAMES[0])
    edit(path, change)
    content = path.read_bytes()
    with pytest.raises(MaskFileError, match=message) as refused:
        accept_file(path)
    assert str(path) in str(refused.value)
    assert path.read_bytes() == content


def test_what_annotation_tools_leave_empty_is_filled_in(layout):
    path = layout.masks("rgb", "d", NAMES[0])
    empty = {"score": None, "predicted_iou": None, "point_coords": None, "id": [1], "frame": None}
    edit(path, lambda d: d["annotations"][0].update(empty))
    edit(path, lambda d: d["image"].update(height="64"))
    edit(path, lambda d: d.update(suppressed=None))
    accept_file(path)
    first = read_document(path)["annotations"][0]
    assert (first["score"], first["predicted_iou"], first["id"]) == (1.0, 1.0, 0)
    assert "0 failed" in fuse(layout)


def test_masks_of_a_branch_can_be_corrected_too_and_labels_follow(layout):
    path = layout.masks("rgb", "d", NAMES[0])
    edit(path, lambda d: d["annotations"].clear())
    assert accept_file(path) == 0
    kept = path.read_bytes()
    config = layout.root.parent / "c.yaml"
    segment = ("segment", "rgb", "--shard", "d/0000", "--config", config, "--results", layout.root)
    assert "0 made, 2 kept" in hvlabel(*segment)[1]
    assert path.read_bytes() == kept
    assert "1 made, 1 kept" in fuse(layout)
    label = read_document(layout.label("d", NAMES[0]))
    assert not any(a["branch"] == "rgb" for a in label["annotations"])
