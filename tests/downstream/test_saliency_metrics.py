"""Scores of saliency maps: those that the published programs gave, and laws."""

import json

import numpy as np
import pytest

from hvlabel.errors import ScoreError
from hvtrain.metrics.saliency import saliency_scores

# name in the recordings -> ours
NAMES = {
    "mae": "mae",
    "maxf": "max_f",
    "meanf": "mean_f",
    "adpf": "adaptive_f",
    "s": "s",
    "maxe": "max_e",
    "meane": "mean_e",
    "adpe": "adaptive_e",
    "fcurve": "f_curve",
}
CASES = (
    "random",
    "lowcontrast",
    "quantised_ties",
    "all_black",
    "all_white",
    "constant_grey",
    "perfect",
    "inverted",
    "empty_gt",
    "full_gt",
    "empty_gt_black_pred",
    "one_pixel_gt",
    "gt_in_first_column",
    "gt_in_corner",
    "grey_gt",
    "mixed",
)


@pytest.fixture(scope="module")
def recorded(shared):
    with np.load(shared / "oracle" / "metrics" / "metrics_sod.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("variant", "tolerance"), [("smn", 1e-6), ("smn_raw", 1e-6), ("pysod", 1e-9), ("pysod_raw", 1e-9)]
)
def test_scores_are_the_recorded_ones(recorded, case, variant, tolerance):
    count = json.loads(str(recorded["__meta__"]))["cases"][case]
    maps = [recorded[f"{case}/pred{k}"] for k in range(count)]
    truths = [recorded[f"{case}/gt{k}"] for k in range(count)]
    scores = saliency_scores(maps, truths, variant)
    compared = 0
    for name, ours in NAMES.items():
        key = f"{case}/{variant}_{name}"
        if key in recorded:
            np.testing.assert_allclose(getattr(scores, ours), recorded[key], rtol=0, atol=tolerance, err_msg=name)
            compared += 1
    assert compared == (5 if variant.startswith("smn") else 8)
    for name in ("auc", "tpr", "fpr", "cc", "cc_per_image"):
        expected = recorded[f"{case}/smn_{name}"]
        np.testing.assert_allclose(getattr(scores, name), expected, rtol=0, atol=1e-6, err_msg=name)


def scene(seed=0, shape=(21, 33)):
    random = np.random.default_rng(seed)
    truth = np.zeros(shape, bool)
    truth[5:14, 8:20] = True
    noise = random.uniform(0, 0.5, shape)
    return np.clip(0.5 * truth + noise, 0, 1), truth


def test_a_float_map_is_scored_as_the_picture_that_it_would_be_written_to():
    p, truth = scene()
    picture = (p * 255).astype(np.uint8)
    for variant in ("smn", "smn_raw"):
        of_float, of_picture = (saliency_scores([given], [truth], variant) for given in (p, picture))
        assert of_float.max_f == of_picture.max_f
        assert of_float.auc == of_picture.auc


def test_mae_without_stretching_is_the_mean_difference():
    p, truth = scene()
    assert saliency_scores([p], [truth], "pysod_raw").mae == pytest.approx(np.abs(p - truth).mean())


def test_an_all_black_map_has_the_object_share_as_mae():
    _, truth = scene()
    assert saliency_scores([np.zeros(truth.shape)], [truth]).mae == pytest.approx(truth.mean())


def test_images_count_alike_whatever_their_size():
    small, large = scene(1), scene(2, (60, 80))
    each = [saliency_scores([p], [truth]) for p, truth in (small, large)]
    both = saliency_scores([small[0], large[0]], [small[1], large[1]])
    assert both.mae == pytest.approx((each[0].mae + each[1].mae) / 2)
    assert both.max_f <= (each[0].max_f + each[1].max_f) / 2 + 1e-12  # the curves are averaged, then the best is taken


@pytest.mark.parametrize(
    ("maps", "truths", "variant", "sentence"),
    [
        ([], [], "smn", "at least one"),
        ([np.zeros((4, 4))], [], "smn", "1 maps and 0 truths"),
        ([np.zeros((4, 4))], [np.zeros((4, 5), bool)], "smn", "one size"),
        ([np.full((4, 4), 1.5)], [np.zeros((4, 4), bool)], "smn", r"from 1.5 to 1.5: a saliency is .* in \[0, 1\]"),
        ([np.full((4, 4), np.nan)], [np.zeros((4, 4), bool)], "pysod", r"in \[0, 1\]"),
        ([np.zeros((4, 4), int)], [np.zeros((4, 4), bool)], "smn", "map 0 is int64"),
        ([np.zeros((4, 4))], [np.zeros((4, 4))], "smn", "truth 0 is float64"),
        ([np.zeros((4, 4))], [np.zeros((4, 4), bool)], "sm", "no way to count named 'sm'"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(maps, truths, variant, sentence):
    with pytest.raises(ScoreError, match=sentence):
        saliency_scores(maps, truths, variant)
