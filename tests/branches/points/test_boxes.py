"""Boxes of masks, and the bounds that low-resolution logits set to them."""

from math import ceil

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from hvlabel.branches.points.boxes import box_bounds, least_iou, outer_boxes


def test_boxes_end_at_the_outermost_pixels_and_an_empty_mask_has_a_place():
    masks = torch.zeros(3, 20, 30, dtype=torch.bool)
    masks[0, 4:9, 7:20] = True
    masks[2, 19, 29] = masks[2, 0, 3] = True
    assert outer_boxes(masks).tolist() == [[7, 4, 19, 8], [0, 0, 0, 0], [3, 0, 29, 19]]


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize("scale", [4, 2, 1.3, 1, 0.5])
def test_a_mask_ends_between_the_bounds_set_at_low_resolution(scale, rough, blobs):
    logits = torch.randn(60, 40, 48, generator=torch.Generator().manual_seed(0)).round() - 1 if rough else blobs(60)
    height, width = round(40 * scale), round(48 * scale)
    full = torch.nn.functional.interpolate(logits[:, None], (height, width), mode="bilinear")[:, 0]
    boxes = outer_boxes(full > 0) + torch.tensor([5, 7, 5, 7])
    inner, outer = box_bounds(logits, (40, 48), (5, 7, 5 + width, 7 + height))
    there = (full > 0).flatten(1).any(dim=1)
    assert ((outer[:, :2] <= boxes[:, :2]) & (outer[:, 2:] >= boxes[:, 2:]))[there].all()
    known = (inner[:, 2:] > inner[:, :2]).all(dim=1)
    assert ((boxes[:, :2] <= inner[:, :2]) & (boxes[:, 2:] >= inner[:, 2:]))[known].all()
    assert there.sum() > 50
    assert (known.sum() > 50) == (scale >= 1 and not rough)
    if not rough and known.any():
        assert (outer - inner)[known].abs().median() <= scale + 1


@pytest.mark.parametrize("hw", [(96, 128), (300, 150), (4, 300), (200, 31)])
def test_bounds_hold_where_the_upsampling_takes_two_steps_and_leaves_the_padding_out(predictor, hw, blobs):
    embedding = predictor.embed(np.ones((*hw, 1), np.uint8))
    n = predictor.network.topology.decoder_grid * 4
    smooth = torch.nn.functional.interpolate(blobs(60)[:, None], (n, n), mode="bilinear")[:, 0]
    rows, columns = predictor.covered_hw(smooth, embedding)
    seen = smooth[:, : ceil(rows) + 1, : ceil(columns) + 1]
    inner, outer = box_bounds(seen, (rows, columns), (0, 0, hw[1], hw[0]), predictor.slack_cells)
    full = predictor.upscale(smooth, embedding) > 0
    boxes, there = outer_boxes(full), full.flatten(1).any(dim=1)
    assert there.sum() > 5
    assert ((outer[:, :2] <= boxes[:, :2]) & (outer[:, 2:] >= boxes[:, 2:]))[there].all()
    known = (inner[:, 2:] > inner[:, :2]).all(dim=1)
    assert ((boxes[:, :2] <= inner[:, :2]) & (boxes[:, 2:] >= inner[:, 2:]))[known].all()


def test_the_least_iou_is_one_that_a_box_between_the_bounds_has():
    rng = np.random.default_rng(0)
    inner = np.concatenate([rng.uniform(0, 40, (200, 2)), rng.uniform(45, 90, (200, 2))], axis=1)
    margin = rng.uniform(0, 12, (200, 4)) * [-1, -1, 1, 1]
    box = np.array([20, 25, 70, 80.0])
    least = least_iou(box, inner, inner + margin)
    ious = []
    for share in (0, 0.3, 0.7, 1):
        between = torch.from_numpy(inner + share * margin)
        iou = box_iou(torch.from_numpy(box)[None], between)[0].numpy()
        assert (least <= iou + 1e-9).all()
        ious.append(iou)
    assert np.median(np.min(ious, axis=0) - least) < 0.1
    np.testing.assert_allclose(least_iou(box, inner, inner), ious[0])
