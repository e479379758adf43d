"""The tracking head: relation of template and search crop, targets, losses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import generalized_box_iou

from hvtrain.heads.center import CentreHead, CentreMaps, bump, centre_losses, free_radius, generalised_iou
from hvtrain.heads.correlation import correlated


@pytest.mark.parametrize("side", [3, 4])
def test_correlation_is_highest_where_the_template_was_cut_out(side):
    search = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    template = search[:, :, 3 : 3 + side, 9 : 9 + side]
    best = correlated(search, template).sum(dim=1).flatten(1).argmax(dim=1)
    middle = side // 2
    assert best.tolist() == [(3 + middle) * 16 + 9 + middle] * 2


def test_each_crop_is_compared_with_its_own_template():
    search = torch.randn(2, 4, 8, 8)
    template = torch.randn(2, 4, 3, 3)
    whole = correlated(search, template)
    torch.testing.assert_close(whole[1:], correlated(search[1:], template[1:]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("grid", [8, 12, 16])
def test_the_kernel_has_the_crops_middle_in_its_middle(grid):
    head = CentreHead([3], grid, width=8).eval()
    maps = torch.zeros(1, 3, grid, grid)
    maps[:, :, grid // 2, grid // 2] = 5
    kernel = head.template([maps])
    assert kernel.shape == (1, 8, head.kernel, head.kernel)
    others = kernel.clone()
    others[:, :, head.kernel // 2, head.kernel // 2] = 0
    assert kernel.abs().sum() > 0
    assert others.abs().sum() == 0


def test_maps_of_several_sizes_are_read_together():
    head = CentreHead([3, 5], 8, width=8).eval()
    maps = [torch.randn(2, 3, 16, 16), torch.randn(2, 5, 8, 8)]
    with torch.no_grad():
        answer = head(head.template(maps), maps)
    assert answer.score.shape == (2, 8, 8)
    assert answer.offset.shape == answer.size.shape == (2, 2, 8, 8)
    assert 0 < answer.score.min() <= answer.score.max() < 1


def answer_for(boxes, grid=8):
    """Maps that say these boxes at every cell."""
    cells = torch.arange(grid)
    offset_x = boxes[:, 0, None, None] * grid - cells[None, None] + torch.zeros(1, grid, 1)
    offset_y = boxes[:, 1, None, None] * grid - cells[None, :, None] + torch.zeros(1, 1, grid)
    score = torch.stack([bump(box, grid) for box in boxes.tolist()]).clamp(1e-4, 1 - 1e-4)
    size = boxes[:, 2:, None, None].expand(-1, -1, grid, grid)
    return CentreMaps(score, torch.stack([offset_x, offset_y], dim=1), size)


SHARES = st.floats(0.05, 0.95)


@given(st.tuples(SHARES, SHARES, st.floats(0.05, 0.5), st.floats(0.05, 0.5)))
def test_any_box_is_read_off_the_maps_that_say_it(box):
    boxes = torch.tensor([box])
    maps = answer_for(boxes)
    torch.testing.assert_close(maps.boxes_at(maps.score.flatten(1).argmax(dim=1)), boxes, atol=1e-5, rtol=1e-4)
    losses = centre_losses(maps, boxes)
    assert losses["overlap"] < 1e-4
    assert losses["corners"] < 1e-4
    worse = centre_losses(answer_for(1 - boxes), boxes)
    assert worse["loss"] >= losses["loss"] - 1e-4


def test_a_small_object_still_owns_one_cell():
    target = bump((0.5, 0.5, 0.01, 0.01), 8)
    assert target[4, 4] == 1
    assert target.sum() == 1


def test_a_large_object_has_a_wider_bump_that_stays_below_one_elsewhere():
    target = bump((0.5, 0.5, 0.9, 0.9), 16)
    assert target[8, 8] == 1
    assert (target == 1).sum() == 1
    assert (target > 0).sum() > 1


def test_a_centre_outside_the_crop_has_no_target_and_no_box():
    boxes = torch.tensor([[1.2, 0.5, 0.3, 0.3]])
    losses = centre_losses(answer_for(torch.tensor([[0.5, 0.5, 0.3, 0.3]])), boxes)
    assert losses["overlap"] == losses["corners"] == 0
    assert losses["score"] > 0.1  # the bump is wrong


@given(st.floats(1, 30), st.floats(1, 30))
def test_corners_moved_by_the_radius_still_overlap(width, height):
    radius = free_radius(width, height)
    box = torch.tensor([[0, 0, width, height]])
    for change in ([radius] * 4, [radius, radius, -radius, -radius], [-radius, -radius, radius, radius]):
        moved = box + torch.tensor([change])
        low, high = torch.maximum(box, moved)[:, :2], torch.minimum(box, moved)[:, 2:]
        shared = (high - low).prod()
        union = width * height + (moved[:, 2:] - moved[:, :2]).prod() - shared
        assert shared / union >= 0.7 - 1e-4


def test_the_overlap_is_torchvisions():
    corners = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
    boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:] + 0.01], dim=1)
    expected = torch.diagonal(generalized_box_iou(boxes[:10], boxes[10:]))
    torch.testing.assert_close(generalised_iou(boxes[:10], boxes[10:]), expected)
