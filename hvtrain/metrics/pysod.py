"""MAE, F, E and S of a saliency map as PySODMetrics 1.6 counts them: in float64, the truth brighter than 128."""

from __future__ import annotations

import numpy as np

from hvtrain.metrics.counts import BETA_SQUARED, OfMap

LEVELS = 256  # thresholds of the curves, over the map in 8 bits
EPS = float(np.spacing(1))  # added to denominators


def pysod(p: np.ndarray, inside: np.ndarray, *, stretched: bool) -> OfMap:
    """Scores of a map (H, W) float64 in [0, 1] and its truth (H, W) bool.

    stretched : the map is first brought to [0, 1], unless it is constant
    """
    low, high = p.min(), p.max()
    if stretched and high > low:
        p = (p - low) / (high - low)
    n_object = int(inside.sum())
    true_above, false_above = _above(p, inside)
    adaptive = p >= min(2 * p.mean(), 1)
    n_true = np.count_nonzero(adaptive & inside)
    n_false = np.count_nonzero(adaptive & ~inside)
    one_true, one_false = np.array([n_true], float), np.array([n_false], float)  # as curves of one threshold
    adaptive_f = _f(one_true, one_false, n_object)
    adaptive_e = _alignment(one_true, one_false, inside)
    return OfMap(
        mae=float(np.abs(p - inside).mean()),
        f_curve=_f(true_above, false_above, n_object),
        adaptive_f=float(adaptive_f[0]),
        s=_structure(p, inside),
        e_curve=_alignment(true_above, false_above, inside),
        adaptive_e=float(adaptive_e[0]),
    )


def _above(p: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(256,) pixels of the object and others at and above each level, from the highest level to the lowest."""
    levels = (p * 255).astype(np.uint8)  # cut off, not rounded, as the program does
    n_true = np.bincount(levels[inside], minlength=LEVELS)
    n_false = np.bincount(levels[~inside], minlength=LEVELS)
    true_above = np.cumsum(n_true[::-1])  # from the highest level on: at and above each
    false_above = np.cumsum(n_false[::-1])
    return true_above.astype(np.float64), false_above.astype(np.float64)


def _f(true_above: np.ndarray, false_above: np.ndarray, n_object: int) -> np.ndarray:
    """F of binary maps; 0 where no pixel of them is true."""
    marked = np.maximum(true_above + false_above, 1)
    precision = true_above / marked
    recall = true_above / max(n_object, 1)
    below = BETA_SQUARED * precision + recall
    above = (1 + BETA_SQUARED) * precision * recall
    return np.divide(above, below, out=np.zeros(len(below)), where=below > 0)


def _alignment(true_above: np.ndarray, false_above: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Enhanced alignment of binary maps, from the four counts of true and false, marked and not."""
    n, n_object = inside.size, int(inside.sum())
    marked = true_above + false_above
    if n_object == 0:
        return (n - marked) / (n - 1 + EPS)
    if n_object == n:
        return marked / (n - 1 + EPS)
    truth_mean, mean = n_object / n, marked / n
    total = np.zeros(len(marked))
    counts = {
        (1, 1): true_above,
        (1, 0): false_above,
        (0, 1): n_object - true_above,
        (0, 0): n - n_object - false_above,
    }
    for (is_marked, is_object), count in counts.items():
        b = is_marked - mean  # (thresholds,), less its mean
        g = is_object - truth_mean  # the same of the truth
        aligned = 2 * b * g / (b**2 + g**2 + EPS)
        total += (aligned + 1) ** 2 / 4 * count
    return total / (n - 1 + EPS)


def _structure(p: np.ndarray, inside: np.ndarray) -> float:
    """Structure measure."""
    u = float(inside.mean())  # share of the object
    if u == 0:
        return 1 - float(p.mean())  # the darker the better
    if u == 1:
        return float(p.mean())
    of_object = u * _likeness(p[inside])
    of_ground = (1 - u) * _likeness(1 - p[~inside])
    of_objects = of_object + of_ground
    return max(0.0, 0.5 * of_objects + 0.5 * _of_quarters(p, inside))


def _likeness(values: np.ndarray) -> float:
    """How near values (n,) are to being all 1; a lone value has no spread."""
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + spread + EPS)


def _of_quarters(p: np.ndarray, inside: np.ndarray) -> float:
    """Similarity of the four parts around the object's middle, weighted by their areas."""
    rows, columns = np.nonzero(inside)
    # the row and column of the middle belong to the upper and left parts
    y = 1 + round(float(rows.mean()))
    x = 1 + round(float(columns.mean()))
    measure = 0.0
    for of_rows in (slice(None, y), slice(y, None)):
        for of_columns in (slice(None, x), slice(x, None)):
            part = p[of_rows, of_columns]
            if part.size:  # of no weight, and without a mean
                share = part.size / p.size
                measure += share * _similarity(part, inside[of_rows, of_columns])
    return measure


def _similarity(p: np.ndarray, g: np.ndarray) -> float:
    """Structural similarity of a part of a map with its truth."""
    x = float(p.mean())
    y = float(g.mean())
    n = max(p.size - 1, 1)
    p_off, g_off = p - x, g - y
    spread = ((p_off**2).sum() + (g_off**2).sum()) / n  # both variances
    shared = (p_off * g_off).sum() / n  # the covariance
    above = 4 * x * y * shared
    below = (x**2 + y**2) * spread
    if above != 0:
        return float(above / (below + EPS))
    return 1.0 if below == 0 else 0.0
