"""Masks at the size of their crop, filtered as published."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hvlabel.branches.points.boxes import outer_boxes
from hvlabel.branches.points.contract import CropBox, CropRun, Survivors
from hvlabel.branches.points.stability import stability_scores
from hvlabel.masks import encode_stack
from hvlabel.models.two_way import DecodedMasks


@dataclass(frozen=True)
class FullSizeMasks:
    """Stable masks of a crop.

    masks          : (K, h, w) bool of the crop, on its device
    boxes          : (K, 4) int64 px of the whole image, ends inclusive; an empty mask's is at the crop's corner, as
                     published
    iou, stability : (K,) predicted IoU and stability score
    points_xy      : (K, 2) px of the crop that each came from
    """

    masks: Tensor
    boxes: Tensor
    iou: Tensor
    stability: Tensor
    points_xy: np.ndarray

    def take(self, keep: Tensor) -> FullSizeMasks:
        """Those of rising indices (on the CPU) alone."""
        if len(keep) == len(self.boxes):
            return self  # a copy of all masks would take as long as making them
        return FullSizeMasks(
            masks=self.masks[keep.to(self.masks.device)],
            boxes=self.boxes[keep],
            iou=self.iou[keep.to(self.iou.device)],
            stability=self.stability[keep.to(self.stability.device)],
            points_xy=self.points_xy[keep.numpy()],
        )

    def coded(self, crop: CropBox) -> Survivors:
        """Run-length coded, in the frame of the whole image."""
        points = self.points_xy + np.array(crop.corner_xy)
        of_crop = self.masks.cpu().numpy()  # (K, h, w)
        return Survivors(
            rles=encode_stack(crop.in_image(of_crop)),
            boxes=list(self.boxes),
            iou=self.iou.tolist(),
            stability=self.stability.tolist(),
            points=[(float(x), float(y)) for x, y in points],
            crops=[crop.box_xyxy] * len(self.boxes),
        )


def at_full_size(run: CropRun, masks: DecodedMasks, points_xy: np.ndarray) -> FullSizeMasks:
    """Those that are stable and not cut off by the crop. points_xy: (K, 2) px of the crop that each came from."""
    crop, settings = run.crop, run.settings
    logits = run.model.upscale(masks.logits, run.embedding)  # (K, h, w) of the crop
    stability = stability_scores(logits, settings)
    above = logits > settings.mask_threshold
    corner = torch.tensor([*crop.corner_xy, *crop.corner_xy])  # for both corners of a box
    boxes = outer_boxes(above) + corner  # (K, 4) px of the whole image
    keep = ~crop.cuts(boxes)
    if settings.stability_score_thresh > 0:
        keep &= (stability >= settings.stability_score_thresh).cpu()
    every = FullSizeMasks(above, boxes, masks.iou, stability, points_xy)
    return every.take(keep.nonzero()[:, 0])
