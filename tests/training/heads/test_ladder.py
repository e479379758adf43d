"""Heads on maps of a frozen backbone: their size as a law, what they see, and what they do not."""

import pytest
import torch

from hvtrain.heads.table import build_head, load_head
from hvtrain.heads.views import View


def view(n_channels, widths=(32,), size_px=(40, 27), stride_px=8.0):
    """Two images of which the maps' cells cover a little more than there is."""
    generator = torch.Generator().manual_seed(0)
    grid = [-(-side // int(stride_px)) for side in size_px]
    maps = [torch.rand(2, width, *grid, generator=generator) for width in widths]
    picture = torch.rand(2, n_channels, *size_px, generator=generator) if n_channels else None
    return View(size_px, picture, maps, stride_px)


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("width", "millions"), [(768, 5.7), (1024, 10.1), (1280, 15.8)])
def test_the_ladder_has_the_size_of_the_published_heads(width, millions):
    n_channels, n_classes = 25, 10
    with torch.device("meta"):
        network = build_head("ladder", n_channels, n_classes, width=width)
    law = 9.63 * width**2 + 0.94 * width * n_channels + n_classes * width / 16
    assert count(network) == pytest.approx(law, rel=2e-3)
    assert count(network) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("options", [{}, {"gates": True}])
@pytest.mark.parametrize("n_channels", [0, 5])
@torch.no_grad()
def test_logits_have_the_size_of_the_labels_and_weights_come_back(n_channels, options):
    network = build_head("ladder", n_channels, 3, width=32, **options).eval()
    logits = network(view(n_channels))
    assert logits.shape == (2, 3, 40, 27)
    again = load_head("ladder", network.state_dict())
    gated = bool(options) and n_channels > 0  # without skips there is nothing to gate
    assert (again.steps[0].gate is not None) == gated
    torch.testing.assert_close(again(view(n_channels)), logits, rtol=0, atol=0)


@torch.no_grad()
def test_skips_see_the_picture_and_without_them_only_the_maps_count():
    with_skips, without = (build_head("ladder", n, 3, width=32).eval() for n in (5, 0))
    given = view(5)
    other = View(given.size_px, given.picture + 1, given.maps, given.stride_px)
    assert not torch.equal(with_skips(given), with_skips(other))
    assert torch.equal(without(given), without(other))


@torch.no_grad()
def test_the_linear_head_reads_each_cell_by_itself():
    head = build_head("linear", 0, 3, widths=(32, 16)).eval()
    given = view(0, (32, 16))
    before = head(given)
    assert before.shape == (2, 3, 40, 27)
    given.maps[0][:, :, 4, 0] += 5  # one cell at the lower left: rows 32 to 40
    changed = (head(given) - before).abs().amax(dim=(0, 1)) > 0
    assert changed[36, 4]
    assert not changed[:24].any()
    assert not changed[:, 16:].any()
    torch.testing.assert_close(load_head("linear", head.state_dict())(given), head(given))


def test_cells_beyond_the_image_are_cut_off_not_squeezed_in():
    """A map that marks its last row of cells, of which one pixel row lies in the image."""
    maps = torch.zeros(1, 1, 5, 4)
    maps[:, :, 4] = 1
    head = build_head("linear", 0, 1, widths=(1,)).eval()
    with torch.no_grad():
        head.out.weight.fill_(1.0)
        head.out.bias.fill_(0.0)
        logits = head(View((33, 32), None, [maps], 8.0))
    assert logits[0, 0, 32, 10] > 0.5
    assert logits[0, 0, 27, 10] == 0
