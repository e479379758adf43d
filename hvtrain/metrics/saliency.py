"""Scores of salient-object maps as two published programs count them: SMN's evaluators and PySODMetrics.

They disagree on the same maps, so a score is told with the variant that it was counted by:

smn       : each map is first stretched to its own least and largest value; grey values of the truth count as shares
smn_raw   : the same without stretching
pysod     : stretched, in float64; the truth is what is brighter than 128
pysod_raw : the same without stretching

AUC and CC are SMN's in every variant: on the maps as they are, the truth being what is brighter than 128.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from hvlabel.errors import ScoreError
from hvtrain.metrics.counts import OfMap
from hvtrain.metrics.pysod import pysod
from hvtrain.metrics.smn import smn

Variant = Literal["smn", "smn_raw", "pysod", "pysod_raw"]
OBJECT = 128  # a truth brighter than this is the object
MIN_SPREAD = 1e-3  # added to the denominator of the correlation: a constant map has 0


@dataclass(frozen=True)
class SaliencyScores:
    """Scores of a data set, its images counting alike. All but the arrays are single numbers, in [0, 1] where not told.

    mae          : mean absolute error
    max_f        : largest value of `f_curve`
    mean_f       : mean of `f_curve`
    adaptive_f   : F at twice a map's mean; nan in SMN's variants, which have none
    s            : structure measure; nan in SMN's variants where a truth is a lone pixel, or has its middle in row or
                   column 0
    max_e, mean_e, adaptive_e : enhanced alignment, as F; above 1 for a perfect map by 1 in the number of pixels
    auc          : area below the ROC curve of the mean rates; nan where a truth has no object, or nothing else
    cc           : Pearson correlation, [-1, 1]
    cc_per_image : (N,) float64
    f_curve      : (255,) in SMN's variants, rising thresholds; (256,) in the others, falling; means over images
    tpr, fpr     : (256,) mean rates, falling thresholds
    """

    mae: float
    max_f: float
    mean_f: float
    adaptive_f: float
    s: float
    max_e: float
    mean_e: float
    adaptive_e: float
    auc: float
    cc: float
    cc_per_image: np.ndarray
    f_curve: np.ndarray
    tpr: np.ndarray
    fpr: np.ndarray


def saliency_scores(
    maps: Sequence[np.ndarray], truths: Sequence[np.ndarray], variant: Variant = "smn"
) -> SaliencyScores:
    """Scores of the maps of a data set.

    maps   : N of (H, W), uint8, or float in [0, 1]; images may have different sizes
    truths : N of (H, W), bool, or uint8 with 255 for the object
    ScoreError for no images, sizes that differ, values out of range, or an unknown variant.
    """
    if variant not in get_args(Variant):
        raise ScoreError(f"no way to count named {variant!r}; there are: {', '.join(get_args(Variant))}")
    if len(maps) != len(truths) or len(maps) == 0:
        raise ScoreError(f"{len(maps)} maps and {len(truths)} truths: give one truth for every map, at least one")
    images: list[OfMap] = []
    rates: list[np.ndarray] = []
    correlations: list[float] = []
    for k, (given, of_given) in enumerate(zip(maps, truths, strict=True)):
        predicted, truth = _checked(given, of_given, k)
        inside = truth > OBJECT
        grey = _as_picture(predicted)
        if variant.startswith("smn"):
            images.append(smn(grey, truth, stretched=variant == "smn"))
        else:
            p = predicted / 255 if predicted.dtype == np.uint8 else predicted
            images.append(pysod(p, inside, stretched=variant == "pysod"))
        rates.append(_rates(grey, inside))
        correlations.append(_correlation(grey, inside))
    mean_rates = np.mean(rates, axis=0)  # (2, 256)
    return _means(images, mean_rates, np.array(correlations))


def _means(images: Sequence[OfMap], rates: np.ndarray, correlations: np.ndarray) -> SaliencyScores:
    """Of the scores of each image, mean rates (2, 256) and correlations (N,)."""
    tpr, fpr = rates
    # curves are averaged before the best threshold is taken: one threshold serves all images
    f_curve = np.mean([of_one.f_curve for of_one in images], axis=0)
    e_curve = np.mean([of_one.e_curve for of_one in images], axis=0)
    return SaliencyScores(
        mae=float(np.mean([of_one.mae for of_one in images])),
        max_f=float(f_curve.max()),
        mean_f=float(f_curve.mean()),
        adaptive_f=float(np.mean([of_one.adaptive_f for of_one in images])),
        s=float(np.mean([of_one.s for of_one in images])),
        max_e=float(e_curve.max()),
        mean_e=float(e_curve.mean()),
        adaptive_e=float(np.mean([of_one.adaptive_e for of_one in images])),
        auc=float(np.trapezoid(tpr, fpr)),  # fpr rises: thresholds fall
        cc=float(correlations.mean()),
        cc_per_image=correlations,
        f_curve=f_curve,
        tpr=tpr,
        fpr=fpr,
    )


def _checked(given: np.ndarray, truth: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k-th map, uint8 or float64, and its truth, uint8."""
    given, truth = np.asarray(given), np.asarray(truth)
    if given.ndim != 2 or truth.shape != given.shape or given.size < 2:
        raise ScoreError(
            f"map {k} is {given.shape}, its truth {truth.shape}: both are (H, W) of one size; enlarge the map first"
        )
    if truth.dtype == bool:
        truth = truth.astype(np.uint8) * 255
    if truth.dtype != np.uint8:
        raise ScoreError(f"truth {k} is {truth.dtype}: give bool, or uint8 with 255 for the object")
    if given.dtype == np.uint8:
        return given, truth
    if given.dtype.kind not in "bf":
        raise ScoreError(f"map {k} is {given.dtype}: give uint8, or float in [0, 1]")
    given = given.astype(np.float64)
    low, high = float(given.min()), float(given.max())
    if not (low >= 0 and high <= 1):  # holds for nan as well
        raise ScoreError(f"map {k} has values from {low:g} to {high:g}: a saliency is a probability in [0, 1]")
    return given, truth


def _as_picture(predicted: np.ndarray) -> np.ndarray:
    """(H, W) uint8, what is left of the value cut off, as the programs' 8-bit pictures are written."""
    if predicted.dtype == np.uint8:
        return predicted
    return (predicted * 255).astype(np.uint8)


def _rates(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(2, 256) shares of the object and of the rest at or above each grey value, from 255 down; nan of no pixels."""
    shares = []
    for part in (inside, ~inside):
        counts = np.bincount(grey[part], minlength=256)
        at_or_above = np.cumsum(counts[::-1])
        n_pixels = int(part.sum())
        shares.append(at_or_above / n_pixels if n_pixels else np.full(256, np.nan))
    return np.stack(shares)


def _correlation(grey: np.ndarray, inside: np.ndarray) -> float:
    p = grey / 255
    p = p - p.mean()
    g = inside - inside.mean()
    spread = np.sqrt((p**2).sum()) * np.sqrt((g**2).sum())
    return float((p * g).sum() / (spread + MIN_SPREAD))
