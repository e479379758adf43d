"""Run-length codes, IoU, suppression, files."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from hvlabel.errors import MaskFileError
from hvlabel.masks import (
    Mask,
    MaskSet,
    Suppressed,
    areas,
    best_masks,
    decode,
    dump_masks,
    encode,
    encode_stack,
    interior_point,
    iou_matrix,
    mask_nms,
    numeric_id,
    rank,
    read_document,
    read_masks,
)

masks_arrays = st.tuples(st.integers(1, 12), st.integers(1, 30), st.integers(1, 30)).flatmap(lambda s: arrays(bool, s))


def plain_iou(masks):
    """Pairwise IoU by a matrix product, the plain twin."""
    flat = masks.reshape(len(masks), -1).astype(np.float64)
    inter = flat @ flat.T
    area = flat.sum(axis=1)
    union = area[:, None] + area[None, :] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def plain_nms(masks, order, threshold):
    """Suppression by all pairs, the plain twin."""
    iou = plain_iou(masks)
    kept, lost = [], {}
    for i in order:
        winner = next((k for k in kept if iou[i, k] > threshold), None)
        if winner is None:
            kept.append(int(i))
        else:
            lost[int(i)] = (winner, iou[i, winner])
    return kept, lost


@given(masks_arrays)
def test_decoding_undoes_encoding(masks):
    rles = encode_stack(masks)
    for mask, rle in zip(masks, rles, strict=True):
        np.testing.assert_array_equal(decode(rle), mask)
        assert rle == encode(mask)
    np.testing.assert_array_equal(areas(rles), masks.sum(axis=(1, 2)))


def test_more_masks_than_pycocotools_counts_at_once():
    masks = np.random.default_rng(0).random((300, 8, 9)) > 0.5
    np.testing.assert_array_equal(areas(encode_stack(masks)), masks.sum(axis=(1, 2)))
    assert areas([]).shape == (0,)


@given(masks_arrays)
def test_iou_agrees_with_the_plain_twin(masks):
    rles = encode_stack(masks)
    np.testing.assert_allclose(iou_matrix(rles, rles), plain_iou(masks), atol=1e-12)
    assert iou_matrix([], rles).shape == (0, len(masks))


thresholds = st.floats(0.05, 0.95) | st.sampled_from(
    [k / n for n in range(1, 13) for k in range(n + 1)]
)  # IoU that masks do reach


@given(masks_arrays, thresholds, st.randoms(use_true_random=False))
def test_nms_agrees_with_the_plain_twin(masks, threshold, random):
    order = np.array(random.sample(range(len(masks)), len(masks)))
    kept, lost = mask_nms(encode_stack(masks), order, threshold)
    expected_kept, expected_lost = plain_nms(masks, order, threshold)
    assert kept == expected_kept
    assert lost == {k: (w, pytest.approx(v)) for k, (w, v) in expected_lost.items()}


def test_nms_keeps_a_mask_exactly_at_the_threshold():
    a, b = np.zeros((1, 4), bool), np.zeros((1, 4), bool)
    a[0, :4] = True
    b[0, :2] = True  # IoU 0.5
    rles = [encode(a), encode(b)]
    assert mask_nms(rles, np.array([0, 1]), 0.5)[0] == [0, 1]
    assert mask_nms(rles, np.array([0, 1]), 0.49)[0] == [0]


def square(size, score, branch="rgb", at=0):
    mask = np.zeros((20, 20), bool)
    mask[at : at + size, at : at + size] = True
    return Mask(encode(mask), score, branch, (1.0, 1.0))


def test_rank_is_total_score_area_branch_position():
    masks = [square(3, 0.5), square(5, 0.5), square(3, 0.5, "material"), square(3, 0.9), square(3, 0.5)]
    assert rank(masks).tolist() == [3, 1, 2, 0, 4]
    assert [m.score for m in best_masks(masks, 0.9, 2)] == [0.9, 0.5]


@given(masks_arrays)
def test_interior_point_lies_inside(masks):
    for mask in masks:
        if mask.any():
            x, y = interior_point(mask)
            assert mask[int(y), int(x)]


def example_set():
    masks = (
        square(4, 0.75),
        Mask(
            encode(np.eye(20, dtype=bool)),
            0.5,
            "sequence",
            (3.0, 3.0),
            0.6,
            0.7,
            (0, 0, 10, 10),
            3,
            (7, 4, 1),
            ("rgb", "sequence"),
            {"object": 2},
        ),
    )
    return MaskSet(20, 20, masks, (Suppressed(5, "material", 0, 0.875), Suppressed(7, "rgb")))


def test_files_round_trip_and_are_readable_by_coco_tools(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(dump_masks(example_set(), "a", {"stage": "rgb", "key": "k"}))
    again = read_masks(path)
    assert [(m.rle, m.score, m.frame, m.bands, m.votes, dict(m.extra)) for m in again.masks] == [
        (m.rle, m.score, m.frame, m.bands, m.votes, dict(m.extra)) for m in example_set().masks
    ]
    assert again.suppressed == example_set().suppressed
    document = json.loads(path.read_text())
    size = {"width": 20, "height": 20}
    assert document["image"] == {"image_id": numeric_id("a"), "name": "a", **size, "file_name": "a.png"}
    for annotation in document["annotations"]:
        assert coco.decode(annotation["segmentation"]).sum() == annotation["area"]
        assert coco.toBbox(annotation["segmentation"]).tolist() == annotation["bbox"]


def test_no_masks_is_an_empty_list(tmp_path):
    path = tmp_path / "none.json"
    path.write_bytes(dump_masks(MaskSet(4, 5, ()), "none", {"stage": "rgb"}))
    assert read_document(path)["annotations"] == []
    assert read_masks(path) == MaskSet(4, 5, ())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.replace('"score": 0.75', '"score": 0.76'), "does not match its seal"),
        (lambda t: t[: len(t) // 2], "not JSON"),
        (lambda t: "[]", "not a mask file"),
        (lambda t: '{"image": {}, "annotations": [], "provenance": {}}', "does not match its seal"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, damage, message):
    path = tmp_path / "a.json"
    path.write_text(damage(dump_masks(example_set(), "a", {"stage": "rgb"}).decode()))
    with pytest.raises(MaskFileError, match=message):
        read_masks(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MaskFileError, match=r"gone\.json: cannot read"):
        read_masks(tmp_path / "gone.json")
