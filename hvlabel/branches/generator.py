"""Points on a grid to masks: one generator for every network that decodes prompts.

Settings, filters and order are those of SAM's automatic mask generator (SAM2AutomaticMaskGenerator in the sam2
package); mode exact gives its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil
from typing import Any

import cv2
import numpy as np
import torch

from hvlabel.branches.covered import CoveredPoints
from hvlabel.branches.points import CropBox, CropRun, PromptModel, Survivors, exact_masks, fast_masks, outer_boxes
from hvlabel.config import Branch, GeneratorSettings
from hvlabel.masks import Mask, decode, encode


@torch.inference_mode()
def generate_masks(
    model: PromptModel,
    image: np.ndarray,
    settings: GeneratorSettings,
    branch: Branch,
    embedding: Any = None,
    known: Sequence[np.ndarray] = (),
) -> list[Mask]:
    """Masks of an (H, W, C) image in the order of the last suppression that ran (one crop: best predicted IoU first).

    embedding : the whole image's, if it is at hand already
    known     : (H, W) bool masks that were made otherwise: with settings.skip_after, points inside whose look is
                theirs are left out
    A mask's score is its predicted IoU clipped to [0, 1].
    """
    height, width = image.shape[:2]
    survivors = Survivors()
    crops = crop_boxes(height, width, settings.crop_n_layers, settings.crop_overlap_ratio)
    for box, layer in crops:
        x0, y0, x1, y1 = box
        picture = image[y0:y1, x0:x1]
        at_hand = layer == 0 and embedding is not None  # layer 0 is the whole image
        features = embedding if at_hand else model.embed(picture)
        crop = CropBox(box, (height, width))
        run = CropRun(model, features, crop, settings)
        survivors.extend(_of_crop(run, picture, layer, known))
    if len(crops) > 1:
        # of two masks of one object the smaller crop's is the finer
        areas_px = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in survivors.crops]
        smaller_first = 1 / torch.tensor(areas_px, dtype=torch.float32)
        survivors = survivors.suppressed(smaller_first, settings.crop_nms_thresh)
    if settings.min_mask_region_area:
        survivors = _without_small_regions(survivors, settings)
    n_left = len(survivors.rles)
    return [_mask(survivors, k, branch) for k in range(n_left)]


def point_grid(points_per_side: int) -> np.ndarray:
    """(n*n, 2) float64 x, y in (0, 1), row by row, centred in their cells."""
    offset = 1 / (2 * points_per_side)
    side = np.linspace(offset, 1 - offset, points_per_side)
    x, y = np.meshgrid(side, side)
    grid = np.stack([x, y], axis=-1)  # (n, n, 2)
    return grid.reshape(-1, 2)


def crop_boxes(
    height: int, width: int, n_layers: int, overlap_ratio: float
) -> list[tuple[tuple[int, int, int, int], int]]:
    """((x0, y0, x1, y1), layer) of the whole image and of 4**layer overlapping crops per further layer."""
    boxes = [((0, 0, width, height), 0)]  # layer 0
    for layer in range(1, n_layers + 1):
        n = 2**layer  # crops along a side
        overlap_px = int(overlap_ratio * min(height, width) * (2 / n))
        # n crops of which neighbours share overlap_px cover the side
        shared_px = overlap_px * (n - 1)
        crop_w = ceil((shared_px + width) / n)
        crop_h = ceil((shared_px + height) / n)
        for i, j in product(range(n), range(n)):
            x0 = (crop_w - overlap_px) * i
            y0 = (crop_h - overlap_px) * j
            x1 = min(x0 + crop_w, width)  # rounded up, the last may reach beyond
            y1 = min(y0 + crop_h, height)
            boxes.append(((x0, y0, x1, y1), layer))
    return boxes


def _of_crop(run: CropRun, picture: np.ndarray, layer: int, known: Sequence[np.ndarray]) -> Survivors:
    """The survivors of one crop. picture: (h, w, C) what it shows; known: (H, W) bool masks of the whole image."""
    settings = run.settings
    per_side = int(settings.points_per_side / settings.crop_n_points_downscale_factor**layer)
    grid = point_grid(max(1, per_side))  # (n*n, 2)
    if settings.mode == "exact":
        return exact_masks(run, grid)
    if not settings.skip_after:
        return fast_masks(run, grid)
    x0, y0, x1, y1 = run.crop.box_xyxy
    covered = CoveredPoints(run.crop.scaled(grid), picture)
    covered.cover(np.ascontiguousarray(mask[y0:y1, x0:x1]) for mask in known)
    return fast_masks(run, grid, covered)


def _without_small_regions(survivors: Survivors, settings: GeneratorSettings) -> Survivors:
    """Fill small holes, drop small islands, then box NMS that prefers masks which needed neither."""
    min_area_px = settings.min_mask_region_area
    unchanged: list[float] = []  # 1 or 0, as scores of the suppression
    for k, rle in enumerate(survivors.rles):
        mask, filled = _drop_small(decode(rle), min_area_px, holes=True)
        mask, dropped = _drop_small(mask, min_area_px, holes=False)
        changed = filled or dropped
        unchanged.append(0.0 if changed else 1.0)
        if changed:
            survivors.rles[k] = encode(mask)
            alone = torch.from_numpy(mask)[None]  # (1, H, W)
            survivors.boxes[k] = outer_boxes(alone)[0]
    threshold = max(settings.box_nms_thresh, settings.crop_nms_thresh)
    return survivors.suppressed(torch.tensor(unchanged), threshold)


def _drop_small(mask: np.ndarray, min_area: int, *, holes: bool) -> tuple[np.ndarray, bool]:
    """The mask without holes (or islands) below min_area px, 8-connected; the largest island always stays."""
    parts = (mask ^ holes).astype(np.uint8)  # of the background where holes are looked for
    _, labels, stats, _ = cv2.connectedComponentsWithStats(parts, connectivity=8)
    area = stats[1:, cv2.CC_STAT_AREA]  # component 0 is the rest
    small = np.flatnonzero(area < min_area) + 1  # their labels
    if not len(small):
        return mask, False
    if holes:
        return mask | np.isin(labels, small), True
    large = np.flatnonzero(area >= min_area) + 1
    largest = int(area.argmax()) + 1
    kept = large if len(large) else [largest]
    return np.isin(labels, kept), True


def _mask(survivors: Survivors, k: int, branch: Branch) -> Mask:
    """The k-th of them."""
    x0, y0, x1, y1 = survivors.crops[k]
    predicted_iou = survivors.iou[k]
    score = min(1.0, max(0.0, predicted_iou))  # a network's prediction may lie outside [0, 1]
    return Mask(
        survivors.rles[k],
        score=score,
        branch=branch,
        point_xy=survivors.points[k],
        predicted_iou=predicted_iou,
        stability_score=survivors.stability[k],
        crop_box_xywh=(x0, y0, x1 - x0, y1 - y0),
    )
