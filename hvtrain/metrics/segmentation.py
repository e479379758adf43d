"""Scores of semantic segmentation over a whole split, as HS3-Bench computes them.

All pixels of a split go into one confusion matrix; a mean of per-image values is another figure. The void class has an
index like any other: labelled pixels may be predicted void where a network has an output for it. These then count as
errors of their true class, and, in the macro means of accuracy and F1, void counts as a class of value 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

FIGURES = ("acc_micro", "acc_macro", "f1_macro", "jaccard")


def confusion_matrix(
    predicted: np.ndarray, target: np.ndarray, n_classes: int, ignore_index: int | None = None
) -> np.ndarray:
    """(K, K) int64 numbers of pixels: rows are the target's class, columns the predicted one.

    predicted, target : integers of one shape, in [0, K); of the target also `ignore_index`, in that range or not
    ignore_index      : pixels with this target are left out; its row, if it has one, stays zero
    ValueError for a class outside the range, and for shapes that differ.
    """
    predicted, target = np.asarray(predicted), np.asarray(target)
    if predicted.shape != target.shape:
        raise ValueError(f"a prediction of shape {predicted.shape} for a target of {target.shape}; give equal ones")
    kept = np.ones(target.shape, bool) if ignore_index is None else target != ignore_index
    of_target = target[kept].astype(np.int64)
    of_predicted = predicted[kept].astype(np.int64)
    for name, classes in (("target", of_target), ("prediction", of_predicted)):
        if classes.size and not 0 <= classes.min() <= classes.max() < n_classes:
            raise ValueError(f"{name}: classes {classes.min()} to {classes.max()}, expected 0 to {n_classes - 1}")
    pairs = of_target * n_classes + of_predicted  # each pair of classes as one number
    counts = np.bincount(pairs, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes)


def argmax_classes(logits: np.ndarray) -> np.ndarray:
    """(B, H, W) int64 of logits (B, K, H, W): the first of equal maxima wins."""
    return logits.argmax(axis=1)


def recall_per_class(confusion: np.ndarray) -> np.ndarray:
    """(K,) share of a class's pixels that are predicted so; 0 where it has none."""
    right, missed, _ = _counts(confusion)
    return _ratio(right, right + missed)


def f1_per_class(confusion: np.ndarray) -> np.ndarray:
    """(K,) 2 tp / (2 tp + fp + fn); 0 where a class is in neither target nor prediction."""
    right, missed, extra = _counts(confusion)
    return _ratio(2 * right, 2 * right + missed + extra)


def iou_per_class(confusion: np.ndarray, ignore_index: int | None = None) -> np.ndarray:
    """(K,) tp / (tp + fp + fn); 0 at the void class and where a class is in neither target nor prediction."""
    right, missed, extra = _counts(confusion)
    iou = _ratio(right, right + missed + extra)
    if _is_class(ignore_index, len(confusion)):
        iou[ignore_index] = 0.0
    return iou


def acc_micro(confusion: np.ndarray) -> float:
    """Share of the labelled pixels that are right; 0 where nothing is labelled."""
    right, missed, _ = _counts(confusion)
    n_labelled = (right + missed).sum()
    return float(right.sum() / n_labelled) if n_labelled else 0.0


def acc_macro(confusion: np.ndarray) -> float:
    """Mean recall over the classes in target or prediction, void among them once it is predicted; 0 without any."""
    present = _present(confusion)
    if not present.any():
        return 0.0
    recall = recall_per_class(confusion)[present]
    return float(recall.mean())


def f1_macro(confusion: np.ndarray) -> float:
    """Mean F1 over the same classes as acc_macro."""
    present = _present(confusion)
    if not present.any():
        return 0.0
    f1 = f1_per_class(confusion)[present]
    return float(f1.mean())


def jaccard(confusion: np.ndarray, ignore_index: int | None = None) -> float:
    """Mean IoU over the classes in target or prediction but void, which is never in it; nan without any."""
    present = _present(confusion)
    if _is_class(ignore_index, len(confusion)):
        present[ignore_index] = False
    if not present.any():
        return float("nan")
    iou = iou_per_class(confusion, ignore_index)[present]
    return float(iou.mean())


def figures(confusion: np.ndarray, ignore_index: int | None = None) -> dict[str, float]:
    """The four figures of FIGURES, of a confusion matrix (K, K)."""
    return {
        "acc_micro": acc_micro(confusion),
        "acc_macro": acc_macro(confusion),
        "f1_macro": f1_macro(confusion),
        "jaccard": jaccard(confusion, ignore_index),
    }


def split_figures(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], n_classes: int, ignore_index: int | None = None
) -> dict[str, float]:
    """The four figures over all pixels of some (predicted, target) pairs, which may differ in shape."""
    confusion = np.zeros((n_classes, n_classes), np.int64)
    for predicted, target in pairs:
        confusion += confusion_matrix(predicted, target, n_classes, ignore_index)
    return figures(confusion, ignore_index)


def _counts(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K,) true positives, false negatives and false positives."""
    right = np.diag(confusion)
    missed = confusion.sum(axis=1) - right  # of the row, the true class, what lies in other columns
    extra = confusion.sum(axis=0) - right
    return right, missed, extra


def _present(confusion: np.ndarray) -> np.ndarray:
    """(K,) bool, classes in target or prediction."""
    n_pixels = confusion.sum(axis=0) + confusion.sum(axis=1)
    return n_pixels > 0


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Quotients in float64, 0 where the divisor is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _is_class(index: int | None, n_classes: int) -> bool:
    """Whether an ignored index is one of the matrix's classes; 255 is not."""
    return index is not None and 0 <= index < n_classes
