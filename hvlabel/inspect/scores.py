"""Masks against ground truth: recall, precision, objects that only the spectrum shows, and whether scores are true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hvlabel.inspect.precision import average_precision
from hvlabel.masks import MaskSet, iou_matrix

RIGHT_IOU = 0.5  # from which on a mask shows an object
N_BEST = 20  # masks of an image that someone who looks at it sees first
IOU_THRESHOLDS = np.linspace(0.50, 0.95, 10).round(2)  # COCO's ten
BINS = 10  # of a calibration curve


class Bin(NamedTuple):
    """Masks of about the same score: a point of a calibration curve. iou: their mean best IoU with an object."""

    n_masks: int
    score: float
    iou: float


@dataclass(frozen=True)
class Scores:
    """Figures over all ground-truth objects of a set of images.

    ar                : recall averaged over IoU .50:.05:.95, at most `n_proposals` best masks per image
    mean_best_iou     : mean over objects of the best mask's IoU
    spectral_only     : share of spectral-only objects found at IoU .5; nan if there are none
    precision         : share of all masks whose IoU with some object is at least .5; nan without masks
    precision_best    : the same of each image's N_BEST best masks
    ap, ap50          : COCO's average precision over the same thresholds, and at .50
    calibration       : masks by score, lowest first
    calibration_error : mean distance of score and IoU over its bins; nan without masks
    """

    n_images: int
    n_objects: int
    n_spectral_only: int
    masks_per_image: float
    ar: float
    mean_best_iou: float
    spectral_only: float
    precision: float
    precision_best: float
    ap: float
    ap50: float
    calibration: tuple[Bin, ...]
    calibration_error: float


def score(pairs: Sequence[tuple[MaskSet, MaskSet]], n_proposals: int = 100) -> Scores:
    """Scores of (masks, truth) of several images; masks are taken in their order, best first."""
    overlaps = [iou_matrix(masks.rles, truth.rles) for masks, truth in pairs]  # per image (masks, objects)
    # initial: an image without masks finds no object, one without objects has no right mask
    of_objects = [overlap[:n_proposals].max(axis=0, initial=0.0) for overlap in overlaps]  # per image (objects,)
    shown = [overlap.max(axis=1, initial=0.0) for overlap in overlaps]  # per image (masks,)
    best = np.concatenate(of_objects)
    recall = best[:, None] >= IOU_THRESHOLDS  # (objects, thresholds)
    of_images = [_spectral_only(truth) for _, truth in pairs]
    spectral_only = np.concatenate(of_images)  # (objects,) bool
    right = [iou >= RIGHT_IOU for iou in shown]
    ap, ap50 = average_precision(pairs, n_proposals)
    scores = np.array([mask.score for masks, _ in pairs for mask in masks.masks])
    calibration = calibration_curve(scores, np.concatenate(shown))
    errors = np.array([abs(point.score - point.iou) for point in calibration])  # bins are of equal size
    right_of_best = [of_image[:N_BEST] for of_image in right]
    n_masks = [len(masks) for masks, _ in pairs]
    return Scores(
        n_images=len(pairs),
        n_objects=len(best),
        n_spectral_only=int(spectral_only.sum()),
        masks_per_image=float(np.mean(n_masks)),
        ar=_share(recall),
        mean_best_iou=_share(best),
        spectral_only=_share(best[spectral_only] >= RIGHT_IOU),
        precision=_share(np.concatenate(right)),
        precision_best=_share(np.concatenate(right_of_best)),
        ap=ap,
        ap50=ap50,
        calibration=calibration,
        calibration_error=_share(errors),
    )


def calibration_curve(scores: np.ndarray, iou: np.ndarray) -> tuple[Bin, ...]:
    """Mean score and mean IoU of masks (N,), in BINS groups of equal size, lowest scores first."""
    lowest_first = np.argsort(scores, kind="stable")
    groups = np.array_split(lowest_first, BINS)
    curve = []
    for group in groups:
        if len(group):  # fewer masks than bins leave some empty
            mean_score = float(scores[group].mean())
            mean_iou = float(iou[group].mean())
            curve.append(Bin(len(group), mean_score, mean_iou))
    return tuple(curve)


def _spectral_only(truth: MaskSet) -> np.ndarray:
    """(n_objects,) bool, whether only the spectrum shows an object."""
    marks = [mask.extra["spectral_only"] for mask in truth.masks]
    return np.array(marks, bool)


def _share(values: np.ndarray) -> float:
    """Mean; nan of nothing."""
    return float(values.mean()) if len(values) else float("nan")
