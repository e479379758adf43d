"""MAE, F, E and S of a saliency map as SMN's evaluation program counts them.

The program reads maps and truth from 8-bit pictures and computes in float32. Comparisons with thresholds are made in
float32 here as well, sums in float64. The truth is binarised for S only: JPEGs have grey values near edges.
"""

from __future__ import annotations

import numpy as np

from hvtrain.metrics.counts import BETA_SQUARED, NAN, OfMap

THRESHOLDS = np.linspace(0, 1, 255).astype(np.float32)
TINY = 1e-20  # added to denominators
STRETCH = np.float32(1e-3)  # added to the range of grey values: the largest becomes 254
LARGEST = np.float32(255)


def smn(grey: np.ndarray, truth: np.ndarray, *, stretched: bool) -> OfMap:
    """Scores of a map and its truth, both (H, W) uint8.

    stretched : the map is first brought to its own least and largest value, as the program does
    """
    p = (_stretched(grey) if stretched else grey) / LARGEST  # (H, W) float32
    g = truth / LARGEST
    f_curve = np.zeros(len(THRESHOLDS))
    e_curve = np.zeros(len(THRESHOLDS))
    for k, threshold in enumerate(THRESHOLDS):
        passed = p >= threshold
        f_curve[k] = _f(passed, g)
        e_curve[k] = _alignment(passed, g)
    return OfMap(
        mae=float(np.abs(p - g).mean(dtype=np.float64)),
        f_curve=f_curve,
        adaptive_f=NAN,
        s=_structure(p.astype(np.float64), g),
        e_curve=e_curve,
        adaptive_e=NAN,
    )


def _stretched(grey: np.ndarray) -> np.ndarray:
    """(H, W) uint8 from 0 to 254; a constant map becomes 0."""
    values = grey.astype(np.float32)
    low, high = values.min(), values.max()
    share = (values - low) / (high - low + STRETCH)
    return (share * LARGEST).astype(np.uint8)


def _f(passed: np.ndarray, g: np.ndarray) -> float:
    """F of a binary map; 0 where no pixel of it is true."""
    overlap = g[passed].sum(dtype=np.float64)
    precision = overlap / (passed.sum() + TINY)
    recall = overlap / (g.sum(dtype=np.float64) + TINY)
    below = BETA_SQUARED * precision + recall
    return (1 + BETA_SQUARED) * precision * recall / below if below > 0 else 0.0


def _alignment(passed: np.ndarray, g: np.ndarray) -> float:
    """Enhanced alignment of a binary map with the truth, each less its mean."""
    b = passed - passed.mean()
    g = g - g.mean(dtype=np.float64)
    aligned = 2 * g * b / (g * g + b * b + TINY)
    enhanced = (aligned + 1) ** 2 / 4
    return float(enhanced.sum() / (b.size - 1))  # N - 1: a perfect map has slightly more than 1


def _structure(p: np.ndarray, g: np.ndarray) -> float:
    """Structure measure; nan where a part that it needs holds no pixel, or one pixel of which a spread is asked."""
    share = float(g.mean(dtype=np.float64))
    if share == 0:
        return 1 - float(p.mean())  # no object: the darker the better
    if share == 1:
        return float(p.mean())
    inside = g >= 0.5
    u = float(inside.mean())
    of_object = u * _likeness(p[inside])
    of_ground = (1 - u) * _likeness(1 - p[~inside])
    of_objects = of_object + of_ground
    measure = 0.5 * of_objects + 0.5 * _of_quarters(p, inside)
    return max(measure, 0.0) if measure == measure else NAN  # max() would turn nan into 0


def _likeness(values: np.ndarray) -> float:
    """How near values (n,) are to being all 1."""
    if values.size < 2:
        return NAN
    mean = float(values.mean())
    spread = float(values.std(ddof=1))
    return 2 * mean / (mean**2 + 1 + spread + TINY)


def _of_quarters(p: np.ndarray, inside: np.ndarray) -> float:
    """Similarity of the four parts around the object's middle, weighted by their areas."""
    rows, columns = np.nonzero(inside)
    if rows.size == 0:
        return NAN
    # the parts end before the middle's row and column; halves are rounded to even
    y = round(float(rows.mean()))
    x = round(float(columns.mean()))
    measure = 0.0
    for of_rows in (slice(None, y), slice(y, None)):
        for of_columns in (slice(None, x), slice(x, None)):
            part = p[of_rows, of_columns]
            share = part.size / p.size
            measure += share * _similarity(part, inside[of_rows, of_columns])
    return measure


def _similarity(p: np.ndarray, g: np.ndarray) -> float:
    """Structural similarity of a part of a map with its truth; nan for a part without pixels."""
    if p.size == 0:
        return NAN
    x = float(p.mean())
    y = float(g.mean())
    n = p.size - 1 + TINY
    p_off, g_off = p - x, g - y
    spread = ((p_off**2).sum() + (g_off**2).sum()) / n  # both variances
    shared = (p_off * g_off).sum() / n  # the covariance
    above = 4 * x * y * shared
    below = (x**2 + y**2) * spread
    if above != 0:
        return float(above / (below + TINY))
    return 1.0 if below == 0 else 0.0
