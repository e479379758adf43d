"""Scores of segmentation against the recorded evaluator of HS3-Bench, and as laws."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hvtrain.metrics import segmentation as seg

CASES = (
    "no_void_pred", "void_pred", "void_is_zero", "absent_both", "absent_target_predicted", "void_frame", "all_void",
    "perfect", "perfect_void_too", "single_class_half_void", "hcv2_many_batches",
)  # fmt: skip
K = 4


@pytest.fixture(scope="module")
def oracle(shared):
    with np.load(shared / "oracle" / "metrics" / "metrics_semseg.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize("case", CASES)
def test_every_recorded_case(oracle, case):
    facts = json.loads(str(oracle["__meta__"]))["cases"][case]
    n_classes, void = facts["num_classes"], facts["ignore_index"]
    pairs = [(oracle[f"{case}/pred{k}"], oracle[f"{case}/target{k}"]) for k in range(facts["batches"])]
    confusion = sum(seg.confusion_matrix(*pair, n_classes, void) for pair in pairs)
    np.testing.assert_array_equal(confusion, oracle[f"{case}/confmat"])
    for name, value in seg.split_figures(pairs, n_classes, void).items():
        np.testing.assert_allclose(value, oracle[f"{case}/{name}"], atol=1e-6, err_msg=name)
    np.testing.assert_allclose(seg.recall_per_class(confusion), oracle[f"{case}/acc_class"], atol=1e-6)
    np.testing.assert_allclose(seg.f1_per_class(confusion), oracle[f"{case}/f1_class"], atol=1e-6)
    np.testing.assert_allclose(seg.iou_per_class(confusion, void), oracle[f"{case}/jaccard_class"], atol=1e-6)


def test_the_first_of_equal_maxima_wins(oracle):
    logits = oracle["ties/logits"]
    np.testing.assert_array_equal(seg.argmax_classes(logits), oracle["ties/argmax"][:, 0])


labels = arrays(np.uint8, (3, 5), elements=st.integers(0, K - 1))


@given(labels, labels, st.permutations(range(K)))
def test_names_of_classes_do_not_matter(predicted, target, order):
    renamed = np.array(order, np.uint8)
    before = seg.split_figures([(predicted, target)], K)
    after = seg.split_figures([(renamed[predicted], renamed[target])], K)
    assert before == pytest.approx(after)


@given(labels, labels)
def test_without_a_void_output_an_ignored_255_gives_the_figures_of_an_ignored_class(predicted, target):
    is_void = target == K - 1
    predicted = np.where(predicted == K - 1, 0, predicted)  # a network that cannot say void
    outside = np.where(is_void, 255, target)
    of_class = seg.split_figures([(predicted, target)], K, K - 1)
    of_255 = seg.split_figures([(predicted, outside)], K, 255)
    assert of_class == pytest.approx(of_255, nan_ok=True)


@given(labels, labels)
def test_macro_figures_are_bounded_and_a_perfect_prediction_has_them_all(predicted, target):
    figures = seg.split_figures([(predicted, target)], K)
    assert 0 <= figures["jaccard"] <= figures["f1_macro"] <= 1
    assert set(seg.split_figures([(target, target)], K).values()) == {1.0}


def test_a_void_prediction_costs_a_class_in_the_macro_means_only():
    """The trap: one labelled pixel predicted void adds a class of value 0."""
    target = np.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    right, with_void = target.copy(), target.copy()
    with_void[0, 0] = 2
    assert seg.split_figures([(right, target)], 3, 2)["acc_macro"] == 1.0
    figures = seg.split_figures([(with_void, target)], 3, 2)
    assert figures["acc_macro"] == pytest.approx((0.75 + 1.0 + 0.0) / 3)
    assert figures["jaccard"] == pytest.approx((0.75 + 1.0) / 2)


@pytest.mark.parametrize(("predicted", "target", "what"), [(3, 0, "prediction"), (0, 3, "target")])
def test_a_class_outside_the_range_is_refused(predicted, target, what):
    with pytest.raises(ValueError, match=f"{what}: classes 3 to 3, expected 0 to 2"):
        seg.confusion_matrix(np.array([predicted]), np.array([target]), 3)


def test_tensors_count_as_arrays_and_shapes_have_to_be_equal():
    classes = torch.tensor([[0, 1], [1, 1]])
    assert seg.confusion_matrix(classes, classes.numpy(), 2).tolist() == [[1, 0], [0, 3]]
    with pytest.raises(ValueError, match=r"a prediction of shape \(2, 2\) for a target of \(4,\)"):
        seg.confusion_matrix(classes, np.zeros(4, int), 2)
