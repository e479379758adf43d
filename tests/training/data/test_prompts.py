"""Prompts lie where they say, and the draws of a step are functions of seed and step."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvtrain.data.batch import mirrored
from hvtrain.data.prompts import (
    begins_with_boxes,
    box_of,
    can_be_asked_for,
    correction_draws,
    covered_cells,
    in_drawn_order,
    jittered,
    point_in,
)


@given(st.integers(0, 10_000))
def test_points_boxes_and_mirrored_masks_are_of_the_same_place(seed):
    random = np.random.default_rng(seed)
    mask = random.random((7, 9)) > 0.8
    mask[random.integers(7), random.integers(9)] = True
    x, y = point_in(mask, random)
    assert mask[int(y), int(x)]
    left, top, right, bottom = box_of(mask).astype(int)
    assert mask[top : bottom + 1, left : right + 1].sum() == mask.sum()
    for flips in ([False, False], [True, False], [False, True], [True, True]):
        turned = mirrored(mask, np.array(flips))
        assert turned.base is not None  # a view
        assert turned.sum() == mask.sum()
        np.testing.assert_array_equal(mirrored(turned, np.array(flips)), mask)
        assert turned[6 - int(y) if flips[0] else int(y), 8 - int(x) if flips[1] else int(x)]


@given(st.integers(0, 10_000), st.floats(0, 2))
def test_a_jittered_box_stays_inside_and_in_order(seed, jitter):
    box = np.array([3.0, 4.0, 6.0, 4.0])
    moved = jittered(box, jitter, 16, np.random.default_rng(seed))
    assert 0 <= moved[0] <= moved[2] <= 15
    assert 0 <= moved[1] <= moved[3] <= 15
    assert jittered(box, 0.0, 16, np.random.default_rng(seed)).tolist() == box.tolist()


def test_a_cell_is_covered_from_one_half_on():
    mask = np.zeros((8, 8), bool)
    mask[:2, :1] = True  # half of the first 2 x 2
    mask[4, 4] = True  # a quarter of another
    assert covered_cells(mask, 4).sum() == 1
    assert covered_cells(mask, 4)[0, 0]


@pytest.mark.parametrize(("n_cells", "may"), [(3, False), (4, True), (50, True), (51, False)])
def test_masks_of_few_cells_or_of_nearly_all_are_not_asked_for(n_cells, may):
    cells = np.arange(100).reshape(10, 10) < n_cells
    assert can_be_asked_for(cells, max_area_share=0.5) == may


def test_draws_belong_to_a_place_in_the_batch_whoever_holds_it():
    whole = correction_draws(3, 5, [0, 1, 2, 3], (2, 4))
    assert whole.shape == (2, 16)
    shared = torch.cat([correction_draws(3, 5, [0, 1], (2, 4)), correction_draws(3, 5, [2, 3], (2, 4))], dim=1)
    assert torch.equal(whole, shared)
    assert not torch.equal(whole, correction_draws(3, 6, [0, 1, 2, 3], (2, 4)))
    boxed = [begins_with_boxes(0, step, 0.3) for step in range(1000)]
    assert np.mean(boxed) == pytest.approx(0.3, abs=0.05)
    assert not any(begins_with_boxes(0, step, 0.0) for step in range(100))


def test_without_a_temperature_every_order_is_as_likely():
    masks, qualities = np.array([1, 2, 5, 7]), np.linspace(0, 1, 8)
    drawn = in_drawn_order(masks, qualities, None, np.random.default_rng(3))
    np.testing.assert_array_equal(drawn, np.random.default_rng(3).permutation(masks))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_first_mask_is_drawn_by_its_quality(temperature):
    masks, qualities = np.array([0, 2, 3]), np.array([0.9, 1.0, 0.6, 0.3])
    chances = qualities[masks] ** (1 / temperature)
    chances /= chances.sum()
    random = np.random.default_rng(0)
    orders = [in_drawn_order(masks, qualities, temperature, random) for _ in range(4000)]
    assert all(sorted(order) == [0, 2, 3] for order in orders)
    first = np.array([order[0] for order in orders])
    shares = [(first == mask).mean() for mask in masks]
    np.testing.assert_allclose(shares, chances, atol=0.04)  # five deviations of 4000 draws


def test_no_mask_and_no_quality_can_be_drawn_from():
    random = np.random.default_rng(0)
    assert len(in_drawn_order(np.zeros(0, int), np.ones(3), 0.5, random)) == 0
    assert sorted(in_drawn_order(np.arange(3), np.zeros(3), 1e-3, random)) == [0, 1, 2]
