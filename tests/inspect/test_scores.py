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


def test_a_second_mask_on_an_object_costs_precision_only_in_ap():
    truth = MaskSet(10, 10, (column(10, spectral_only=False), column(4, spectral_only=False)))
    once = MaskSet(10, 10, (column(10, 0.9), column(4, 0.8)))
    twice = MaskSet(10, 10, (column(10, 0.9), column(9, 0.85), column(4, 0.8)))
    alone, doubled = score([(once, truth)]), score([(twice, truth)])
    assert alone.ap == alone.ap50 == pytest.approx(1)
    assert doubled.precision == 1
    # recall .5 is reached at precision 1, recall 1 at 2/3: 51 and 50 of COCO's 101 recalls
    assert doubled.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_ap_without_masks_or_objects():
    truth = MaskSet(10, 10, (column(10, spectral_only=False),))
    empty = MaskSet(10, 10, ())
    assert score([(empty, truth)]).ap == 0
    assert np.isnan(score([(truth, empty)]).ap)


def test_calibration_compares_scores_with_what_they_promise():
    truth = MaskSet(10, 10, (column(10, spectral_only=False),))
    honest = MaskSet(10, 10, (column(8, 0.8), column(6, 0.6)))
    proud = MaskSet(10, 10, (column(8, 1.0), column(6, 0.8)))
    assert score([(honest, truth)]).calibration_error == pytest.approx(0)
    assert score([(proud, truth)]).calibration_error == pytest.approx(0.2)
    assert [tuple(b) for b in score([(honest, truth)]).calibration] == [
        (1, pytest.approx(0.6), pytest.approx(0.6)),
        (1, pytest.approx(0.8), pytest.approx(0.8)),
    ]
