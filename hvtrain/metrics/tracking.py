"""Scores of single-object tracking: one-pass evaluation, from a box per frame.

A box is x, y, w, h in px. Areas are continuous: a box of width 3 covers 3 px. The first frame, whose box the tracker is
given, counts as any other, as in the published evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hvlabel.errors import ScoreError

# each threshold is one product or quotient, as in the published evaluation: sums of steps would miss its ties
OVERLAPS = np.arange(21) * 0.05
DISTANCES_PX = np.arange(51) * 1.0
RELATIVE_DISTANCES = np.arange(51) / 100  # of the truth's width and height
AT_20 = 20  # index of 20 px, and of 0.2
INVALID = -1.0  # overlap and distance of a frame that has no valid truth, in the published evaluation


@dataclass(frozen=True)
class SequenceScores:
    """One sequence, or the mean of several. All are shares of frames, in [0, 1].

    success        : (21,) with an overlap above OVERLAPS, strictly: a perfect tracker has 0 at the last
    precision      : (51,) with centres at most DISTANCES_PX apart
    norm_precision : (51,) with centres at most RELATIVE_DISTANCES of the truth's width and height apart
    """

    success: np.ndarray
    precision: np.ndarray
    norm_precision: np.ndarray

    @property
    def auc(self) -> float:
        """Mean success over the 21 thresholds, at most 20/21."""
        return float(self.success.mean())

    @property
    def dp20(self) -> float:
        """Precision at 20 px."""
        return float(self.precision[AT_20])

    @property
    def norm_dp20(self) -> float:
        """Precision at a fifth of the truth's size."""
        return float(self.norm_precision[AT_20])


def sequence_scores(
    truth_xywh: np.ndarray,
    predicted_xywh: np.ndarray,
    visible: np.ndarray | None = None,
    *,
    pysot_compat: bool = False,
) -> SequenceScores:
    """Scores of one sequence.

    truth_xywh     : (T, 4) float px; w or h of 0 or less, or a value that is no number: the object is not in the frame
    predicted_xywh : (T, 4) float px; of no size is allowed, it overlaps nothing
    visible        : (T,) bool or 0 and 1; the other frames are left out
    pysot_compat   : as pysot counts: frames left out by `visible` still divide, a frame without truth never succeeds,
                     and one whose true centre has a coordinate of 0 or less is precise at every threshold
    ScoreError for no frames, other shapes, or no frame with an object.
    """
    truth = _boxes(truth_xywh, "the truth")
    predicted = _boxes(predicted_xywh, "the prediction")
    if len(truth) != len(predicted):
        raise ScoreError(
            f"{len(truth)} true boxes and {len(predicted)} predicted ones: give one of each for every frame"
        )
    if not np.isfinite(predicted).all():
        raise ScoreError("a predicted box holds a value that is no number; a lost object is a box of width 0")
    n_frames = len(truth)
    kept = np.ones(n_frames, bool) if visible is None else _visible(visible, n_frames)
    if not pysot_compat:
        with np.errstate(invalid="ignore"):
            has_size = (truth[:, 2:] > 0).all(axis=1)
        is_number = np.isfinite(truth).all(axis=1)
        kept = kept & has_size & is_number
        n_frames = int(kept.sum())
        if n_frames == 0:
            raise ScoreError("no frame has a true box with a width and a height: there is nothing to score")
    truth, predicted = truth[kept], predicted[kept]
    iou = overlaps(truth, predicted)
    distance_px, relative = _distances(truth, predicted)
    if pysot_compat:
        centres = _centres(truth)
        at_border = (centres <= 0).any(axis=1)
        distance_px[at_border] = INVALID
        relative_at_border = (centres / _sizes(truth) <= 0).any(axis=1)
        relative[relative_at_border] = INVALID
    # (frames, thresholds) each
    overlapping = iou[:, None] > OVERLAPS
    near = distance_px[:, None] <= DISTANCES_PX
    relatively_near = relative[:, None] <= RELATIVE_DISTANCES
    return SequenceScores(
        success=overlapping.sum(axis=0) / n_frames,
        precision=near.sum(axis=0) / n_frames,
        norm_precision=relatively_near.sum(axis=0) / n_frames,
    )


def mean_scores(sequences: Sequence[SequenceScores]) -> SequenceScores:
    """Means over sequences, each counting alike however long it is; ScoreError for none."""
    if not sequences:
        raise ScoreError("no sequence: there is nothing to score")
    return SequenceScores(
        success=np.mean([of_one.success for of_one in sequences], axis=0),
        precision=np.mean([of_one.precision for of_one in sequences], axis=0),
        norm_precision=np.mean([of_one.norm_precision for of_one in sequences], axis=0),
    )


def overlaps(truth_xywh: np.ndarray, predicted_xywh: np.ndarray) -> np.ndarray:
    """(T,) float64 IoU in [0, 1] of boxes (T, 4) px, frame by frame; -1 where the true one has no size."""
    # unsigned integers would wrap around
    truth = _boxes(truth_xywh, "the truth")
    predicted = _boxes(predicted_xywh, "the prediction")
    true_size, size = truth[:, 2:], predicted[:, 2:]
    low = np.maximum(truth[:, :2], predicted[:, :2])
    high = np.minimum(truth[:, :2] + true_size, predicted[:, :2] + size)
    shared = np.maximum(high - low, 0).prod(axis=1)  # (T,) px
    union = true_size.prod(axis=1) + size.prod(axis=1) - shared
    iou = np.divide(shared, union, out=np.zeros(len(union)), where=union > 0)
    no_size = ~(true_size > 0).all(axis=1)
    return np.where(no_size, INVALID, np.clip(iou, 0, 1))


def _distances(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T,) distances of centres, px, and relative to the truth's width and height."""
    true_centres, centres, sizes = _centres(truth), _centres(predicted), _sizes(truth)
    off_px = true_centres - centres  # (T, 2)
    # divided before they are subtracted, as published: ties depend on the last digits
    relative = true_centres / sizes - centres / sizes
    distance_px = np.sqrt((off_px**2).sum(axis=1))
    return distance_px, np.sqrt((relative**2).sum(axis=1))


def _centres(boxes: np.ndarray) -> np.ndarray:
    """(T, 2) of the pixels that boxes (T, 4) cover: a box of width 1 has its centre at x."""
    half = (boxes[:, 2:] - 1) / 2
    return boxes[:, :2] + half


def _sizes(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, 2:] + 1e-16  # a box of no size divides as well


def _boxes(boxes: np.ndarray, whose: str) -> np.ndarray:
    """(T, 4) float64."""
    boxes = np.asarray(boxes, np.float64)
    if boxes.size == 0:
        raise ScoreError(f"{whose} holds no frame: a sequence has one box x, y, w, h per frame")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ScoreError(f"{whose} has shape {boxes.shape}: boxes are x, y, w, h, one row per frame")
    return boxes


def _visible(visible: np.ndarray, n_frames: int) -> np.ndarray:
    visible = np.asarray(visible)
    if visible.shape != (n_frames,):
        raise ScoreError(f"visibility of {visible.shape} for {n_frames} frames: give one value per frame")
    return visible == 1
