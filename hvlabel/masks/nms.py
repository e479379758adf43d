"""Greedy non-maximum suppression on exact mask IoU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hvlabel.masks.maskset import Mask, MaskSet
from hvlabel.masks.rle import Rle, areas, boxes_xyxy, iou_matrix

NESTED_SHARE = 0.9  # of the smaller mask that lies in the other one
BLOCK = 128  # masks that are compared with all others at once: of few masks NumPy's calls cost most, of many the memory
CLEARLY_WORSE = 0.8  # times what the better one competes by: two that are nearly as good both stay


def rank(masks: Sequence[Mask], strengths: Sequence[float] | None = None) -> np.ndarray:
    """(N,) int order, best first: score, then area, then branch name, then position; no two masks tie.

    strengths : of each mask, in place of its score
    """
    if not len(masks):
        return np.zeros(0, int)
    area_px = areas([mask.rle for mask in masks])
    branch = np.array([mask.branch for mask in masks])
    score = np.array([mask.score for mask in masks] if strengths is None else strengths)
    return np.lexsort((branch, -area_px, -score))  # the last key counts most; stable, so position decides at the end


def ranked(masks: Sequence[Mask], height_px: int, width_px: int) -> MaskSet:
    """A mask set in rank order."""
    best_first = rank(masks)
    return MaskSet(height_px, width_px, tuple(masks[k] for k in best_first))


def best_masks(masks: Sequence[Mask], iou_threshold: float, max_masks: int) -> list[Mask]:
    """The masks left after mask-IoU NMS in rank order, at most max_masks."""
    rles = [mask.rle for mask in masks]
    kept, _ = mask_nms(rles, rank(masks), iou_threshold)
    return [masks[k] for k in kept[:max_masks]]


def nested_copies(rles: Sequence[Rle], strengths: np.ndarray, least_iou: float) -> dict[int, tuple[int, float]]:
    """Masks that are much of a better one, or reach around it: for each the better one and their IoU.

    rles      : of masks, best first, that are no copies of each other
    strengths : (N,) what they compete by, falling
    least_iou : up to this IoU two masks are two objects

    Seldom are two masks of which one holds the other a part and its whole: where they share so much, and one is
    clearly the better, the other one has found the same object less well.
    """
    area_px = areas(rles).astype(float)  # (N,)
    iou = iou_matrix(rles, rles)  # (N, N)
    of_row, of_column = area_px[:, None], area_px[None]
    common_px = iou * (of_row + of_column) / (1 + iou)  # IoU = common / (sum - common)
    smaller_px = np.maximum(np.minimum(of_row, of_column), 1)
    shares_most = common_px >= NESTED_SHARE * smaller_px
    is_nested = shares_most & (iou > least_iou)  # (N, N)
    copies: dict[int, tuple[int, float]] = {}
    for k in range(len(rles)):
        clearly_better = strengths[:k] * CLEARLY_WORSE > strengths[k]
        is_rival = is_nested[k, :k] & clearly_better  # (k,) only masks before this one are better
        rivals = np.flatnonzero(is_rival).tolist()
        standing = [j for j in rivals if j not in copies]  # a copy makes nothing a copy
        if standing:
            winner = standing[0]
            copies[k] = (winner, float(iou[k, winner]))
    return copies


def mask_nms(
    rles: Sequence[Rle], order: np.ndarray, iou_threshold: float
) -> tuple[list[int], dict[int, tuple[int, float]]]:
    """Indices kept, in `order`, and for each suppressed index its winner and their IoU.

    order         : (N,) int, best first; the caller breaks ties
    iou_threshold : a mask above this IoU with a better kept one is suppressed (strictly above)
    The winner is the first kept mask, in order, that suppresses it. Only pairs whose areas and boxes allow the
    threshold are compared, so that the work is far below all pairs.
    """
    area_px = areas(rles).astype(float)  # (N,)
    boxes = boxes_xyxy(rles)
    waiting = np.ones(len(rles), bool)
    kept: list[int] = []
    lost: dict[int, tuple[int, float]] = {}
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        block = block[waiting[block]]
        may_lose = _may_exceed(iou_threshold, area_px, boxes, block)  # (B, N)
        for i, row in zip(block.tolist(), may_lose, strict=True):
            if not waiting[i]:
                continue
            waiting[i] = False
            kept.append(i)
            candidates = np.flatnonzero(waiting & row).tolist()
            candidate_rles = [rles[j] for j in candidates]
            exact = iou_matrix(candidate_rles, [rles[i]])  # (candidates, 1)
            for j, iou in zip(candidates, exact.ravel().tolist(), strict=True):
                if iou > iou_threshold:
                    waiting[j] = False
                    lost[j] = (i, iou)
    return kept, lost


def _may_exceed(iou_threshold: float, area_px: np.ndarray, boxes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(R, N) bool: pairs of a mask of `rows` (R,) and any mask whose IoU may lie above the threshold.

    area_px : (N,) float64
    boxes   : (N, 4) px, x0, y0, x1, y1
    """
    of_row, of_column = boxes[rows][:, None], boxes[None]  # (R, 1, 4) and (1, N, 4)
    first_ends = np.minimum(of_row[..., 2:], of_column[..., 2:])  # (R, N, 2)
    last_starts = np.maximum(of_row[..., :2], of_column[..., :2])
    sides = np.clip(first_ends - last_starts, 0, None)  # of what the boxes share; boxes that lie apart share nothing
    shared_by_boxes = sides[..., 0] * sides[..., 1]  # (R, N) px
    area_of_row = area_px[rows][:, None]
    # The common part is no larger than either mask, nor than what their boxes share; this bounds the IoU.
    common = np.minimum(np.minimum(area_px, area_of_row), shared_by_boxes)
    union = area_px + area_of_row - common
    # Areas are whole numbers: what is above the threshold as a quotient is at least the rounded product, so >= loses
    # no pair.
    return np.asarray((common >= iou_threshold * union) & (common > 0))
