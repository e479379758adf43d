"""From stored values to a network's input."""

import torch

from hvtrain.data.inputs import in_range, network_input, resized


def test_network_input_is_the_predictors():
    cube = torch.tensor([[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]], dtype=torch.int32)
    x = network_input(cube, torch.tensor([[True, False]]), 2)
    assert torch.allclose(x[0] * 8, torch.tensor([[[3.0, 4], [1, 2]], [[7, 8], [5, 6]]]))
    assert (network_input(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, dtype=torch.bool), 4) == 0).all()
    holes = torch.tensor([[[[float("nan"), float("inf")], [2.0, 4.0]]]])
    assert network_input(holes, torch.zeros(1, 2, dtype=torch.bool), 2).tolist() == [[[[0, 0], [0.5, 1]]]]


def test_a_range_is_each_images_own_or_that_of_the_cube():
    x = torch.tensor([[[[1.0, 2.0]]], [[[10.0, 5.0]]]])
    assert in_range(x, "unit_max").tolist() == [[[[0.5, 1.0]]], [[[1.0, 0.5]]]]
    assert in_range(x, "stored") is x


def test_a_resized_constant_stays_one_and_the_same_size_is_no_copy():
    x = torch.full((1, 2, 8, 8), 3.0)
    torch.testing.assert_close(resized(x, 5), torch.full((1, 2, 5, 5), 3.0))
    assert resized(x, 8) is x
