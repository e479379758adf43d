"""Heads that say where the sides of a box are: levels, labels of points, losses, by hand where a hand can count."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvlabel.errors import ConfigError, WeightsError
from hvtrain.heads.car import CROP_PX, CarHead, car_losses, true_centreness
from hvtrain.heads.correlation import laid_over
from hvtrain.heads.levels import Levels, kernel_of
from hvtrain.heads.sides import (
    BACKGROUND,
    IGNORED,
    OBJECT,
    SideMaps,
    balanced_cross_entropy,
    ellipse_labels,
    inner_labels,
    nearest_point,
    points_of,
    true_corners,
    true_sides,
)
from hvtrain.heads.table import build_head, load_head
from hvtrain.heads.xcorr import MOST_NEGATIVE, MOST_POSITIVE, XCorrHead, some_of, xcorr_losses

STEP = 1 / 16
POINTS = points_of(13, STEP)
MIDDLE = torch.tensor([[0.5, 0.5, 0.25, 0.5]])  # four cells wide, eight high
SHARES = st.floats(0.15, 0.85)


def answer_for(boxes, likely=0.0, centreness=None):
    """Maps that say these boxes at every point, and an object with a logit of `likely`."""
    logits = torch.zeros(len(boxes), 2, 13, 13)
    logits[:, OBJECT] = likely
    return SideMaps(logits, true_sides(boxes, POINTS), centreness, STEP)


def test_points_lie_around_the_middle():
    assert points_of(3, 0.25).tolist() == [0.25, 0.5, 0.75]
    assert points_of(2, 0.25).tolist() == [0.375, 0.625]


@given(st.integers(7, 40))
def test_a_template_has_the_crops_middle_in_its_middle(grid):
    side = kernel_of(grid)
    assert 3 <= side < grid - 2
    assert (grid - side) % 2 == 0
    levels = Levels([3], grid, 4).eval()
    maps = torch.arange(grid).float().expand(1, 3, grid, grid).contiguous()
    inner, whole = levels.template([maps])[0], levels.search([maps])[0]
    torch.testing.assert_close(inner.mean(dim=3), whole.mean(dim=3)[:, :, :side], atol=1e-4, rtol=1e-4)


def test_a_template_is_laid_over_every_place_inside():
    search = torch.arange(16.0).reshape(1, 1, 4, 4)
    template = torch.tensor([[[[1.0, 0.0], [0.0, 3.0]]]])
    # (value at the upper left + 3 times the one at the lower right) / 4 cells
    expected = [[(k + 3 * (k + 5)) / 4 for k in row] for row in ([0, 1, 2], [4, 5, 6], [8, 9, 10])]
    assert laid_over(search, template)[0, 0].tolist() == expected


def test_maps_of_too_few_cells_are_refused():
    with pytest.raises(ConfigError, match=r"maps of 4 x 4 cells are too small .* choose head center"):
        build_head("car", widths=[8], grid=4)


# ------------------------------------------------------------------------------------------------------------ labels


def test_an_ellipse_is_positive_and_another_ignored():
    labels = ellipse_labels(MIDDLE, POINTS, STEP)[0]
    # half-axes of the inner one: one cell, two cells; of the outer one two and four
    assert labels[6].tolist() == [0, 0, 0, 0, -1, 1, 1, 1, -1, 0, 0, 0, 0]
    assert labels[:, 6].tolist() == [0, 0, -1, -1, 1, 1, 1, 1, 1, -1, -1, 0, 0]
    assert (labels == OBJECT).sum() == 7  # of the row and the column: the point (1, 1) lies outside


def test_the_inner_part_of_a_box_is_positive():
    labels = inner_labels(MIDDLE, POINTS, STEP)[0]
    # 0.3 of the width from each side leaves 0.4: 0.8 cells to both sides of the middle, 1.6 along y
    assert labels.nonzero().tolist() == [[5, 6], [6, 6], [7, 6]]
    assert set(labels.unique().tolist()) == {BACKGROUND, OBJECT}


@pytest.mark.parametrize("rule", [ellipse_labels, inner_labels])
def test_a_box_of_less_than_a_cell_owns_its_nearest_point(rule):
    boxes = torch.tensor([[0.5 + 0.4 * STEP, 0.5 - 2.4 * STEP, 0.01, 0.01], [0.01, 0.5, 0.01, 0.01]])
    labels = rule(boxes, POINTS, STEP)
    assert (labels[0] == OBJECT).nonzero().tolist() == [[4, 6]]
    assert not (labels[1] == OBJECT).any()  # its centre lies beyond all points' cells


@given(SHARES, SHARES)
def test_the_nearest_point_is_within_half_a_cell(x, y):
    box = torch.tensor([[x, y, 0.1, 0.1]])
    row, column = nearest_point(box, POINTS, STEP)[0].nonzero()[0].tolist()
    assert abs(POINTS[row] - y) <= STEP / 2 + 1e-6
    assert abs(POINTS[column] - x) <= STEP / 2 + 1e-6


def test_sides_and_how_central_a_point_is():
    points = points_of(3, 0.25)  # 0.25, 0.5, 0.75
    boxes = torch.tensor([[0.5, 0.5, 0.8, 0.6]])  # 0.1 to 0.9 and 0.2 to 0.8
    left, top, right, bottom = true_sides(boxes, points)[0, :, 0, 1].tolist()  # upper row, middle column
    assert (left, top, right, bottom) == pytest.approx((0.4, 0.05, 0.4, 0.55))
    assert true_centreness(boxes, points)[0, 0, 1] == pytest.approx(math.sqrt(0.05 / 0.55))
    assert true_centreness(boxes, points)[0, 1, 1] == pytest.approx(1)


# ------------------------------------------------------------------------------------------------------------ losses


def test_both_kinds_of_points_weigh_the_same():
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, OBJECT, 0, 0] = math.log(3)  # an object with a probability of 3/4
    labels = torch.tensor([[[OBJECT, BACKGROUND], [BACKGROUND, IGNORED]]])
    expected = 0.5 * -math.log(3 / 4) + 0.5 * math.log(2)
    assert balanced_cross_entropy(logits, labels).item() == pytest.approx(expected)
    assert balanced_cross_entropy(logits, torch.full((1, 2, 2), IGNORED)) == 0


def test_a_right_box_costs_nothing_and_one_twice_as_wide_half():
    is_same = torch.tensor([True])
    losses = xcorr_losses(answer_for(MIDDLE), MIDDLE, is_same)
    assert losses["overlap"].item() == pytest.approx(0, abs=1e-6)
    assert losses["score"].item() == pytest.approx(math.log(2))
    wide = MIDDLE * torch.tensor([1, 1, 2, 1])
    losses = xcorr_losses(answer_for(wide), MIDDLE, is_same)
    assert losses["overlap"].item() == pytest.approx(0.5)
    assert losses["loss"].item() == pytest.approx(0.5 + math.log(2))


def test_another_objects_template_asks_for_nothing_but_background():
    losses = xcorr_losses(answer_for(MIDDLE * 2, likely=2.0), MIDDLE, torch.tensor([False]))
    assert losses["overlap"] == 0
    p_background = 1 / (1 + math.exp(2))
    assert losses["score"].item() == pytest.approx(-0.5 * math.log(p_background))  # the object's half has no point


@given(st.integers(0, 60), st.integers(0, 60))
def test_at_most_so_many_points_are_drawn(n_first, most):
    chosen = torch.zeros(2, 8, 8, dtype=torch.bool)
    chosen[0].view(-1)[:n_first] = True
    chosen[1] = True
    kept = some_of(chosen, torch.tensor([most, 3]))
    assert kept.flatten(1).sum(dim=1).tolist() == [min(n_first, most), 3]
    assert not (kept & ~chosen).any()


def test_a_large_box_has_as_many_points_as_the_rule_allows(monkeypatch):
    counted = {}

    def count(logits, labels):
        counted.update({kind: int((labels == kind).sum()) for kind in (OBJECT, BACKGROUND)})
        return logits.sum() * 0

    monkeypatch.setattr("hvtrain.heads.xcorr.balanced_cross_entropy", count)
    large = torch.tensor([[0.5, 0.5, 0.6, 0.6]])
    xcorr_losses(answer_for(large), large, torch.tensor([True]))
    assert counted == {OBJECT: MOST_POSITIVE, BACKGROUND: MOST_NEGATIVE}


def test_the_parts_of_a_car_loss():
    flat = torch.zeros(1, 13, 13)
    right = car_losses(answer_for(MIDDLE, centreness=flat), MIDDLE)
    assert right["overlap"].item() == pytest.approx(0, abs=1e-5)
    assert right["score"].item() == pytest.approx(math.log(2))
    assert right["centreness"].item() == pytest.approx(math.log(2))  # of a probability of a half, whatever the target
    wide = car_losses(answer_for(MIDDLE * torch.tensor([1, 1, 2, 1]), centreness=flat), MIDDLE)
    area = 0.25 * 0.5 * CROP_PX**2
    of_boxes = -math.log((area + 1) / (2 * area + 1))  # the same at every point: their weights do not matter
    assert wide["overlap"].item() == pytest.approx(of_boxes, rel=1e-5)
    assert wide["loss"].item() == pytest.approx(2 * math.log(2) + 3 * of_boxes, rel=1e-5)


def test_a_crop_without_its_object_teaches_that_nothing_is_there():
    boxes = torch.tensor([[1.3, 0.5, 0.2, 0.2]])
    losses = car_losses(answer_for(boxes, centreness=torch.zeros(1, 13, 13)), boxes)
    assert losses["overlap"] == losses["centreness"] == 0
    assert losses["loss"].item() == pytest.approx(0.5 * math.log(2))
    assert true_corners(boxes, 1).flatten().tolist() == pytest.approx([1.2, 0.4, 1.4, 0.6])


# ------------------------------------------------------------------------------------------------------------- heads


@pytest.mark.parametrize("head", [XCorrHead, CarHead])
def test_a_few_steps_lower_the_loss(head):
    torch.manual_seed(0)
    network = head([6, 4], 8, width=16)
    maps = [torch.randn(4, 6, 16, 16), torch.randn(4, 4, 8, 8)]
    boxes = torch.tensor([[0.4, 0.5, 0.3, 0.2]]).expand(4, 4)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        answer = network(network.template(maps), maps)
        is_same = (torch.ones(4, dtype=torch.bool),) if head is XCorrHead else ()
        loss = (xcorr_losses if head is XCorrHead else car_losses)(answer, boxes, *is_same)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("name", ["center", "xcorr", "car"])
@torch.no_grad()
def test_what_is_saved_is_loaded_again(name):
    network = build_head(name, widths=[3, 5], grid=8, width=8).eval()
    maps = [torch.randn(1, 3, 8, 8), torch.randn(1, 5, 8, 8)]
    again = load_head(name, network.state_dict(), grid=8)
    first, second = (head(head.template(maps), maps) for head in (network, again))
    for field, value in vars(first).items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(getattr(second, field), value)
    with pytest.raises(ConfigError, match=f"head {name}: no shape tells how many cells .* give grid"):
        load_head(name, network.state_dict())
    with pytest.raises(WeightsError, match="not of the head car"):
        load_head("car", build_head("xcorr", widths=[3], grid=8).state_dict(), grid=8)


def test_the_published_width_has_the_published_size():
    with torch.device("meta"):
        head = build_head("xcorr", widths=[256], grid=31, width=256)
    per_level = sum(p.numel() for branch in (head.score, head.side) for p in branch.parameters())
    assert per_level == pytest.approx(2.5e6, rel=0.01)
