"""The point-grid generator against recorded output of the published one."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvlabel.branches.generator import crop_boxes, generate_masks, point_grid
from hvlabel.config import GeneratorSettings
from hvlabel.errors import DeviceMemoryError
from hvlabel.masks import decode, iou_matrix

HYPERFREE_DEFAULTS = {"pred_iou_thresh": 0.88, "stability_score_thresh": 0.95}


@pytest.mark.parametrize("name", ["amg_default_thresh", "amg_demo_thresh"])
def test_same_masks_in_the_same_order_as_published(shared, predictor, name):
    stored = np.load(shared / "oracle" / "hyperfree" / f"{name}.npz")
    meta, records = json.loads(str(stored["__meta__"])), json.loads(str(stored["records"]))
    height, width = meta["image_hw"]
    masks = np.unpackbits(stored["seg_packed"], axis=2)[:, :, :width].astype(bool)
    found = generate_masks(
        predictor,
        np.ones((height, width, 1), np.uint8),
        GeneratorSettings(mode="exact", **{**HYPERFREE_DEFAULTS, **meta["kwargs"]}),
        "material",
    )
    assert len(found) == len(records)
    for ours, theirs, mask in zip(found, records, masks, strict=True):
        np.testing.assert_array_equal(decode(ours.rle), mask)
        assert ours.predicted_iou == pytest.approx(theirs["predicted_iou"], abs=1e-4)
        assert ours.stability_score == pytest.approx(theirs["stability_score"], abs=1e-4)
        assert ours.point_xy == pytest.approx(theirs["point_coords"][0], abs=1e-3)
        assert ours.crop_box_xywh == pytest.approx(theirs["crop_box"])


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_batch_size_does_not_change_the_result(predictor, mode):
    image = np.ones((80, 112, 1), np.uint8)
    settings = GeneratorSettings(mode=mode, points_per_side=8, pred_iou_thresh=0.6, stability_score_thresh=0.6)
    runs = [
        generate_masks(predictor, image, settings.model_copy(update={"points_per_batch": b}), "rgb") for b in (7, 64)
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) > 5


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_a_batch_that_does_not_fit_is_halved_and_changes_nothing(predictor, mode):
    image = np.ones((80, 112, 1), np.uint8)
    settings = GeneratorSettings(mode=mode, points_per_side=8, pred_iou_thresh=0.6, stability_score_thresh=0.6)
    wanted = generate_masks(predictor, image, settings, "material")
    decode, tried = predictor.decode_above, []

    def small_device(embedding, points_xy, min_iou):
        tried.append(len(points_xy))
        if len(points_xy) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(embedding, points_xy, min_iou)

    predictor.decode_above = small_device
    assert generate_masks(predictor, image, settings, "material") == wanted
    assert tried == [64, 32, 16, 16, 16, 16]
    assert predictor.ceilings.lowered() == {"points": 16}
    assert generate_masks(predictor, image, settings, "material") == wanted
    assert tried[6:] == [16] * 4, "the next image starts with what fits"


def test_a_device_too_small_for_one_point_is_refused_in_one_sentence(predictor):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    predictor.decode_above = no_memory
    with pytest.raises(DeviceMemoryError, match=r"memory for one of the points .* run.device: cpu"):
        generate_masks(predictor, np.ones((80, 112, 1), np.uint8), GeneratorSettings(points_per_side=4), "material")


@pytest.mark.parametrize("changes", [{}, {"crop_n_layers": 1}, {"stability_score_thresh": 0.0}])
def test_fast_masks_are_nearly_the_exact_ones_and_pass_the_same_filters(predictor, changes):
    image = np.ones((80, 112, 1), np.uint8)
    settings = GeneratorSettings(
        points_per_side=12, **{"pred_iou_thresh": 0.6, "stability_score_thresh": 0.6, "box_nms_thresh": 0.5, **changes}
    )
    fast = generate_masks(predictor, image, settings, "rgb")
    exact = generate_masks(predictor, image, settings.model_copy(update={"mode": "exact"}), "rgb")
    assert min(m.stability_score for m in fast) >= settings.stability_score_thresh
    assert min(m.predicted_iou for m in fast) > settings.pred_iou_thresh
    iou = iou_matrix([m.rle for m in fast], [m.rle for m in exact])
    assert iou.max(axis=0).mean() > 0.98
    assert iou.max(axis=1).mean() > 0.98
    assert len(exact) > 10


def test_crops_without_survivors_give_no_masks(predictor):
    settings = GeneratorSettings(points_per_side=4, pred_iou_thresh=2.0, crop_n_layers=1)
    assert generate_masks(predictor, np.ones((64, 64, 1), np.uint8), settings, "rgb") == []


@given(st.integers(1, 40))
def test_grid_points_are_centred_in_equal_cells(n):
    grid = point_grid(n)
    assert grid.shape == (n * n, 2)
    np.testing.assert_allclose(np.sort(np.unique(grid[:, 0].round(12))), (np.arange(n) + 0.5) / n)


@given(st.integers(20, 300), st.integers(20, 300), st.integers(0, 2))
def test_crops_cover_the_image(height, width, n_layers):
    for layer in range(n_layers + 1):
        seen = np.zeros((height, width), bool)
        boxes = [box for box, k in crop_boxes(height, width, n_layers, 512 / 1500) if k == layer]
        assert len(boxes) == 4**layer
        for x0, y0, x1, y1 in boxes:
            seen[y0:y1, x0:x1] = True
        assert seen.all()
