"""Scores of tracking: those that the published evaluation gave, and laws."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvlabel.errors import ScoreError
from hvtrain.metrics.tracking import OVERLAPS, mean_scores, overlaps, sequence_scores

SEQUENCES = (
    "good",
    "drift",
    "perfect",
    "long_bad",
    "empty_frames",
    "absent_flag",
    "ties",
    "near_border",
    "degenerate_pred",
)


@pytest.fixture(scope="module")
def recorded(shared):
    with np.load(shared / "oracle" / "metrics" / "metrics_ope.npz", allow_pickle=False) as file:
        return dict(file)


def compat(recorded, name):
    visible = recorded.get(f"{name}/visible")
    return sequence_scores(recorded[f"{name}/gt"], recorded[f"{name}/pred"], visible, pysot_compat=True)


@pytest.mark.parametrize("name", SEQUENCES)
def test_curves_are_the_recorded_ones(recorded, name):
    scores = compat(recorded, name)
    for curve in ("success", "precision", "norm_precision"):
        np.testing.assert_allclose(getattr(scores, curve), recorded[f"{name}/{curve}"], rtol=0, atol=1e-9)
    if f"{name}/visible" not in recorded:
        iou = overlaps(recorded[f"{name}/gt"], recorded[f"{name}/pred"])
        np.testing.assert_allclose(iou, recorded[f"{name}/iou"], rtol=0, atol=1e-9)


def test_the_mean_is_over_sequences(recorded):
    assert list(json.loads(str(recorded["__meta__"]))["cases"]) == list(SEQUENCES)
    scores = mean_scores([compat(recorded, name) for name in SEQUENCES])
    assert scores.auc == pytest.approx(float(recorded["auc"]), abs=1e-9)
    assert scores.dp20 == pytest.approx(float(recorded["dp20"]), abs=1e-9)
    assert scores.norm_dp20 == pytest.approx(float(recorded["norm_dp20"]), abs=1e-9)
    np.testing.assert_allclose(OVERLAPS, recorded["thresholds_overlap"], rtol=0, atol=1e-9)


BOXES = st.lists(
    st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(1, 60)] * 2), min_size=1, max_size=6
).map(np.array)  # fmt: skip


@given(BOXES)
def test_the_truth_itself_scores_20_of_21_thresholds(boxes):
    scores = sequence_scores(boxes, boxes)
    assert scores.auc == pytest.approx(20 / 21)
    assert scores.dp20 == scores.norm_dp20 == 1


@given(BOXES, st.floats(-30, 30), st.floats(-30, 30))
def test_scores_do_not_depend_on_where_the_frame_begins(boxes, x, y):
    step = np.array([3, 0, 0, 0])
    moved = boxes + np.array([x, y, 0, 0])
    np.testing.assert_allclose(overlaps(moved, moved + step), overlaps(boxes, boxes + step), atol=1e-6)


def test_frames_without_the_object_are_left_out():
    truth = np.array([[5, 5, 10, 10], [0, 0, 0, 0], [7, 5, 10, 10], [np.nan] * 4], float)
    predicted = np.array([[5, 5, 10, 10], [50, 50, 3, 3], [90, 90, 10, 10], [0, 0, 1, 1]], float)
    scores = sequence_scores(truth, predicted)
    assert scores.dp20 == 0.5
    assert scores.auc == pytest.approx(0.5 * 20 / 21)
    assert sequence_scores(truth, predicted, [1, 1, 0, 1]).dp20 == 1


def test_frames_at_the_border_count_by_their_distance():
    truth, far = np.array([[-20, 4, 10, 10.0]]), np.array([[60, 40, 10, 10.0]])
    assert sequence_scores(truth, far).dp20 == 0
    assert sequence_scores(truth, far, pysot_compat=True).dp20 == 1  # the published evaluation's trap


@pytest.mark.parametrize(
    ("truth", "predicted", "visible", "sentence"),
    [
        (np.zeros((0, 4)), np.zeros((0, 4)), None, "the truth holds no frame"),
        (np.ones((3, 4)), np.ones((2, 4)), None, "3 true boxes and 2 predicted"),
        (np.ones((3, 5)), np.ones((3, 4)), None, r"shape \(3, 5\)"),
        (np.zeros((3, 4)), np.ones((3, 4)), None, "nothing to score"),
        (np.ones((1, 4)), np.full((1, 4), np.nan), None, "no number"),
        (np.ones((2, 4)), np.ones((2, 4)), [1], "one value per frame"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(truth, predicted, visible, sentence):
    with pytest.raises(ScoreError, match=sentence):
        sequence_scores(truth, predicted, visible)


def test_no_sequences_cannot_be_scored():
    with pytest.raises(ScoreError, match="no sequence"):
        mean_scores([])


def test_unsigned_boxes_do_not_wrap():
    truth = np.array([[20, 0, 10, 10], [20, 0, 10, 10]], np.uint16)
    predicted = np.array([[200, 0, 10, 10], [25, 0, 10, 10]], np.uint16)
    assert overlaps(truth, predicted).tolist() == [0.0, 50 / 150]
