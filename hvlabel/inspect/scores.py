"""Masks against ground truth: average recall, best IoU, recall of objects that only the spectrum shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hvlabel.masks import MaskSet, iou_matrix

RIGHT_IOU = 0.5  # from which on a mask shows an object
N_BEST = 20  # masks of an image that someone who looks at it sees first
IOU_THRESHOLDS = np.linspace(0.50, 0.95, 10).round(2)  # COCO's ten


@dataclass(frozen=True)
class Scores:
    """Figures over all ground-truth objects of a set of images.

    ar             : recall averaged over IoU .50:.05:.95, at most `n_proposals` best masks per image
    mean_best_iou  : mean over objects of the best mask's IoU
    spectral_only  : share of spectral-only objects found at IoU .5; nan if there are none
    precision      : share of all masks whose IoU with some object is at least .5; nan without masks
    precision_best : the same of each image's N_BEST best masks
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


def best_iou(masks: MaskSet, truth: MaskSet, n_proposals: int) -> np.ndarray:
    """(n_objects,) IoU of the best of the first n_proposals masks with each object."""
    proposals = masks.rles[:n_proposals]
    return iou_matrix(truth.rles, proposals).max(axis=1, initial=0.0)


def score(pairs: Sequence[tuple[MaskSet, MaskSet]], n_proposals: int = 100) -> Scores:
    """Scores of (masks, truth) of several images; masks are taken in their order, best first."""
    best = np.concatenate([best_iou(masks, truth, n_proposals) for masks, truth in pairs])  # (objects,)
    recall = best[:, None] >= IOU_THRESHOLDS  # (objects, thresholds)
    spectral_only = np.concatenate([_spectral_only(truth) for _, truth in pairs])  # (objects,) bool
    right = [_right(masks, truth) for masks, truth in pairs]  # per image (masks,) bool
    return Scores(
        n_images=len(pairs),
        n_objects=len(best),
        n_spectral_only=int(spectral_only.sum()),
        masks_per_image=float(np.mean([len(masks) for masks, _ in pairs])),
        ar=float(recall.mean()),
        mean_best_iou=float(best.mean()),
        spectral_only=_share(best[spectral_only] >= RIGHT_IOU),
        precision=_share(np.concatenate(right)),
        precision_best=_share(np.concatenate([r[:N_BEST] for r in right])),
    )


def _spectral_only(truth: MaskSet) -> np.ndarray:
    """(n_objects,) bool, whether only the spectrum shows an object."""
    return np.array([m.extra["spectral_only"] for m in truth.masks], bool)


def _right(masks: MaskSet, truth: MaskSet) -> np.ndarray:
    """(n_masks,) bool, whether a mask shows some object."""
    best = iou_matrix(masks.rles, truth.rles).max(axis=1, initial=0.0)
    return best >= RIGHT_IOU


def _share(right: np.ndarray) -> float:
    """Share of what is true; nan of nothing."""
    return float(right.mean()) if len(right) else float("nan")
