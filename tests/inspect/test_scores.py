"""Scores against ground truth, on masks whose overlap is known."""

import numpy as np
import pytest

from hvlabel.inspect.scores import score
from hvlabel.masks import Mask, MaskSet, encode


def column(width, score_value=1.0, **extra):
    mask = np.zeros((10, 10), bool)
    mask[:, :width] = True
    return Mask(encode(mask), score_value, "rgb", (0.0, 0.0), extra=extra)


def test_scores_by_hand():
    truth = MaskSet(10, 10, (column(10, spectral_only=False), column(4, spectral_only=True)))
    found = MaskSet(10, 10, (column(8), column(1)))  # best IoU .8 (8/10) and .5 (4/8)
    s = score([(found, truth)])
    assert s.ar == pytest.approx((7 + 1) / 20)  # .5 .55 .. .8 are seven thresholds, .5 is one
    assert s.mean_best_iou == pytest.approx(0.65)
    assert s.spectral_only == 1.0
    assert score([(found, truth)], n_proposals=0).ar == 0
    assert np.isnan(score([(found, MaskSet(10, 10, truth.masks[:1]))]).spectral_only)
