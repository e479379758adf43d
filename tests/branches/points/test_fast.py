"""The fast way against the exact one, by a network that answers with given masks."""

import numpy as np
import pytest
import torch

from hvlabel.branches.points import CropBox, CropRun, exact_masks, fast_masks
from hvlabel.config import GeneratorSettings
from hvlabel.models.batches import Ceilings
from hvlabel.models.two_way import DecodedMasks


class CountingModel:
    """Answers with the same masks whatever it is asked; counts those that are upsampled."""

    def __init__(self, logits, iou, size_hw):
        self.masks, self.upsampled, self.ceilings = DecodedMasks(logits, iou, torch.arange(len(iou))), 0, Ceilings()
        self.size_hw, self.slack_cells = size_hw, 0.0

    def decode_above(self, embedding, points, min_iou):
        return self.masks

    def covered_hw(self, logits, embedding):
        return logits.shape[1:]

    def upscale(self, logits, embedding):
        self.upsampled += len(logits)
        return torch.nn.functional.interpolate(logits[:, None], self.size_hw, mode="bilinear")[:, 0]


@pytest.mark.parametrize("threshold", [0.7, 0.8])
@pytest.mark.parametrize("size_hw", [(160, 192), (40, 48), (20, 24)])
def test_copies_of_kept_masks_are_never_upsampled_and_the_rest_is_what_the_published_order_leaves(
    size_hw, threshold, blobs
):
    logits = torch.cat([blobs(50) + 0.01 * k for k in range(4)])
    iou = torch.from_numpy(np.random.default_rng(2).permutation(200) / 200)
    grid = np.zeros((200, 2))
    settings = {
        "points_per_batch": 200, "stability_score_thresh": 0, "pred_iou_thresh": 0, "box_nms_thresh": threshold
    }  # fmt: skip
    crop = CropBox((0, 0, size_hw[1], size_hw[0]), size_hw)
    model = CountingModel(logits, iou, size_hw)
    exact = exact_masks(CropRun(model, None, crop, GeneratorSettings(mode="exact", **settings)), grid)
    assert model.upsampled == 200
    fast = fast_masks(CropRun(model, None, crop, GeneratorSettings(**settings)), grid)
    assert (model.upsampled - 200 < 150) == (size_hw[0] >= 40)
    assert fast.rles == exact.rles
    assert fast.iou == exact.iou
    assert len(fast.rles) > 10


def test_boxes_at_the_threshold_are_kept_or_removed_as_published():
    nested = torch.full((3, 40, 40), -1.0)
    for k, height in enumerate((11, 9, 8)):  # boxes of 10, 8 and 7 px, widths counted without the last px
        nested[k, 5 : 5 + height, 5:16] = 1
    model = CountingModel(nested, torch.tensor([0.9, 0.8, 0.7]), (40, 40))
    settings = {"points_per_batch": 3, "stability_score_thresh": 0, "pred_iou_thresh": 0, "box_nms_thresh": 0.8}
    crop, grid = CropBox((0, 0, 40, 40), (40, 40)), np.zeros((3, 2))
    exact = exact_masks(CropRun(model, None, crop, GeneratorSettings(mode="exact", **settings)), grid)
    assert fast_masks(CropRun(model, None, crop, GeneratorSettings(**settings)), grid).iou == exact.iou
