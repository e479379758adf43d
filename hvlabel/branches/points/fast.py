"""Nearly the same survivors faster: most masks that fail are dropped at the decoder's resolution, and never upsampled.

Stability is computed there first, with a margin, and then as published for those that are left. The suppression takes
the best score first, and leaves out what bounds of its box show to be a copy of a mask that is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch

from hvlabel.branches.covered import CoveredPoints, rounds
from hvlabel.branches.points.boxes import box_bounds, box_iou, least_iou
from hvlabel.branches.points.contract import CropRun, Survivors
from hvlabel.branches.points.decoding import decoded
from hvlabel.branches.points.full_size import FullSizeMasks, at_full_size
from hvlabel.branches.points.stability import stability_scores
from hvlabel.config import GeneratorSettings
from hvlabel.models.two_way import DecodedMasks

STABILITY_MARGIN = 0.1  # of what is decided at low resolution, before it is decided at full size
FULL_SIZE_AT_ONCE = 16  # masks between two looks at what they suppress
POINTS_BETWEEN_NMS = 1024  # which bounds the masks that are held


def fast_masks(run: CropRun, grid: np.ndarray, covered: CoveredPoints | None = None) -> Survivors:
    """Nearly the survivors of `exact_masks`, best predicted IoU first.

    grid    : (N, 2) x, y in (0, 1)
    covered : of the grid's points; those that settings.skip_after masks cover are left out. None: none are
    """
    settings = run.settings
    points_xy = run.crop.scaled(grid)
    n_points = len(points_xy)
    survivors = Survivors()
    drafts: list[_Draft] = []
    n_held = 0  # points whose drafts wait for their suppression
    # coarse to fine, so that what the first points find spares the points between them
    passes = [np.arange(n_points)] if covered is None else rounds(n_points)
    for among in passes:
        points_idx = among if covered is None else covered.open_points(among, settings.skip_after)
        for first in range(0, len(points_idx), POINTS_BETWEEN_NMS):
            group_idx = points_idx[first : first + POINTS_BETWEEN_NMS]
            for draft in _drafts(run, points_xy, group_idx):
                drafts.append(draft)
                if covered is not None:
                    draft.cover(covered, settings)
            n_held += len(group_idx)
            if n_held >= POINTS_BETWEEN_NMS:
                survivors.extend(_unsuppressed(run, _Draft.joined(drafts)))
                drafts, n_held = [], 0
    if drafts:
        survivors.extend(_unsuppressed(run, _Draft.joined(drafts)))
    predicted_iou = torch.tensor(survivors.iou)
    # the groups did not see each other
    return survivors.suppressed(predicted_iou, settings.box_nms_thresh)


@dataclass(frozen=True)
class _Draft:
    """Masks before they are upsampled.

    points_xy    : (K, 2) px of the crop that each came from
    point_idx    : (K,) index of that point in the grid
    stability    : (K,) at low resolution; 1 where the settings do not filter by it
    inner, outer : (K, 4) float32 bounds of their boxes at full size, as box_bounds gives them
    covered_hw   : rows and columns of the low-resolution masks that the crop takes
    """

    masks: DecodedMasks
    points_xy: np.ndarray
    point_idx: np.ndarray
    stability: np.ndarray
    inner: np.ndarray
    outer: np.ndarray
    covered_hw: tuple[int, int]

    @staticmethod
    def joined(parts: Sequence[_Draft]) -> _Draft:
        """All of them, in their order; there is at least one part."""
        return _Draft(
            masks=DecodedMasks.joined([p.masks for p in parts]),
            points_xy=np.concatenate([p.points_xy for p in parts]),
            point_idx=np.concatenate([p.point_idx for p in parts]),
            stability=np.concatenate([p.stability for p in parts]),
            inner=np.concatenate([p.inner for p in parts]),
            outer=np.concatenate([p.outer for p in parts]),
            covered_hw=parts[0].covered_hw,
        )

    def cover(self, covered: CoveredPoints, settings: GeneratorSettings) -> None:
        """Count which grid points these masks cover."""
        rows, columns = self.covered_hw
        logits = self.masks.logits[:, :rows, :columns]
        above = (logits > settings.mask_threshold).cpu().numpy()
        iou = self.masks.iou.float().cpu().numpy()  # NumPy has no bfloat16
        covered.note(above, iou, self.stability, self.point_idx)


def _drafts(run: CropRun, points_xy: np.ndarray, group_idx: np.ndarray) -> list[_Draft]:
    """The drafts of some points of a grid (N, 2), batch after batch."""

    def draft(part: slice) -> _Draft:
        return _likely_stable(run, points_xy, group_idx[part])

    return list(run.in_batches(len(group_idx), "points", draft))


def _likely_stable(run: CropRun, points_xy: np.ndarray, batch_idx: np.ndarray) -> _Draft:
    """Those masks of a batch of points that may be stable at full size.

    points_xy : (N, 2) the whole grid, px of the crop
    """
    settings, model = run.settings, run.model
    masks = decoded(run, points_xy[batch_idx])
    covered_hw = model.covered_hw(masks.logits, run.embedding)
    rows, columns = (ceil(n) for n in covered_hw)
    # one row and column of the padding: upsampling may look at them
    inside_and_next = masks.logits[:, : rows + 1, : columns + 1]
    logits = inside_and_next.float()
    stability = np.ones(len(logits))
    if settings.stability_score_thresh > 0:
        inside = logits[:, :rows, :columns].contiguous()
        scores = stability_scores(inside, settings).to(logits.device)
        least = settings.stability_score_thresh - STABILITY_MARGIN
        likely = scores >= least
        masks, logits = masks.take(likely), logits[likely]
        stability = scores[likely].cpu().numpy()
    above_0 = logits - settings.mask_threshold
    bounds = box_bounds(above_0, covered_hw, run.crop.box_xyxy, model.slack_cells)
    inner, outer = (bound.cpu().numpy() for bound in bounds)
    of_batch = masks.prompt.cpu().numpy()  # (K,) in the batch
    point_idx = batch_idx[of_batch]  # (K,) in the grid
    return _Draft(masks, points_xy[point_idx], point_idx, stability, inner, outer, (rows, columns))


def _unsuppressed(run: CropRun, draft: _Draft) -> Survivors:
    """What filters and box NMS at full size leave of the drafts, best score first."""
    threshold = np.float64(run.settings.box_nms_thresh)  # as torchvision compares
    survivors = Survivors()
    kept_boxes = np.zeros((0, 4), np.float32)
    # stable: of equal scores the earlier point's comes first, on every device
    best_first = draft.masks.iou.argsort(descending=True, stable=True)
    waiting = best_first.cpu().numpy()
    while len(waiting):
        next_idx = waiting[:FULL_SIZE_AT_ONCE]
        waiting = waiting[FULL_SIZE_AT_ONCE:]
        for batch in _enlarged(run, draft, next_idx):
            boxes = batch.boxes.float().numpy()
            fresh_idx = _not_copies(boxes, kept_boxes, threshold)
            kept_boxes = np.concatenate([kept_boxes, boxes[fresh_idx]])
            keep = torch.tensor(fresh_idx, dtype=torch.long)  # long: the list may be empty
            fresh = batch.take(keep)
            survivors.extend(fresh.coded(run.crop))
            for box in boxes[fresh_idx]:
                at_least = least_iou(box, draft.inner[waiting], draft.outer[waiting])
                waiting = waiting[at_least <= threshold]  # the others are copies for certain
    return survivors


def _enlarged(run: CropRun, draft: _Draft, chosen_idx: np.ndarray) -> Iterator[FullSizeMasks]:
    """Some of the drafts at full size, filtered, batch after batch."""
    device = draft.masks.iou.device

    def enlarge(part: slice) -> FullSizeMasks:
        part_idx = chosen_idx[part]
        on_device = torch.from_numpy(part_idx).to(device)
        masks = draft.masks.take(on_device)
        return at_full_size(run, masks, draft.points_xy[part_idx])

    return run.in_batches(len(chosen_idx), "masks", enlarge)


def _not_copies(boxes: np.ndarray, kept_boxes: np.ndarray, threshold: np.float64) -> list[int]:
    """Which of some boxes (K, 4), best first, neither the kept ones nor earlier ones of their own suppress."""
    fresh: list[int] = []
    for k, box in enumerate(boxes):
        if not (box_iou(kept_boxes, box) > threshold).any():
            kept_boxes = np.concatenate([kept_boxes, box[None]])
            fresh.append(k)
    return fresh
