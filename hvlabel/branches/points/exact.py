"""The published way: every mask is resized, then filtered, then suppressed."""

from __future__ import annotations

import numpy as np
import torch

from hvlabel.branches.points.contract import CropRun, Survivors
from hvlabel.branches.points.decoding import decoded
from hvlabel.branches.points.full_size import FullSizeMasks, at_full_size


def exact_masks(run: CropRun, grid: np.ndarray) -> Survivors:
    """Survivors of one crop in the frame of the whole image, best predicted IoU first.

    grid : (N, 2) x, y in (0, 1)
    """
    points_xy = run.crop.scaled(grid)

    def stable(part: slice) -> FullSizeMasks:
        points = points_xy[part]
        masks = decoded(run, points)
        prompt = masks.prompt.cpu().numpy()  # (K,) which point each came from
        return at_full_size(run, masks, points[prompt])

    survivors = Survivors()
    for batch in run.in_batches(len(points_xy), "points", stable):
        survivors.extend(batch.coded(run.crop))  # run-length coded at once: bool masks of all points take gigabytes
    predicted_iou = torch.tensor(survivors.iou)
    return survivors.suppressed(predicted_iou, run.settings.box_nms_thresh)
