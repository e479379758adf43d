"""The head from a click's feature to a mask: where it reads, and what it is compared with."""

import pytest
import torch

from hvtrain.heads.shortcut import FIRST_BIAS, Shortcut, features_at, masks_of, relative_distance


def test_features_are_read_at_centres_of_cells_and_bilinear_between_them():
    maps = torch.arange(8.0).reshape(1, 1, 2, 4)
    centres = torch.tensor([[[0.125, 0.25], [0.875, 0.75]]])
    assert features_at(maps, centres).tolist() == [[[0.0, 7.0]]]
    between = torch.tensor([[[0.25, 0.5], [0.0, 0.0]]])  # of four cells; beyond the outermost centres
    assert features_at(maps, between).tolist() == [[[2.5, 0.0]]]


def test_the_distance_is_relative_and_0_at_the_target():
    target = torch.tensor([[3.0, 4.0], [30.0, 40.0]])
    same = target[:, None].expand(-1, 3, -1)
    assert relative_distance(same, target).tolist() == [0.0, 0.0]
    near = relative_distance(1.1 * same, target)
    assert near[0].item() == pytest.approx(near[1].item(), rel=1e-3)


def test_a_shortcut_answers_every_click_and_at_first_with_little():
    torch.manual_seed(0)
    shortcut = Shortcut(32)
    vectors = shortcut(torch.randn(2, 32, 4, 4), torch.rand(2, 3, 2))
    assert vectors.shape == (6, 4)
    assert shortcut.layers[2].bias[0].item() == FIRST_BIAS
    upscaled = torch.randn(6, 4, 8, 8)
    masks = masks_of(vectors, upscaled)
    assert masks.shape == (6, 1, 8, 8)
    torch.testing.assert_close(masks[2, 0, 3, 5], vectors[2] @ upscaled[2, :, 3, 5])
