"""The saliency head: SAM's decoder without a prompt."""

import numpy as np
import pytest
import torch

from hvlabel.models.weights import read_state_dict
from hvtrain.heads.saliency import SaliencyHead, on_cells, saliency, saliency_losses
from hvtrain.heads.views import View


def view_of(width=32, rows=3, columns=4, size_px=(44, 64), n=2):
    maps = torch.randn(n, width, rows, columns, generator=torch.Generator().manual_seed(0))
    return View(size_px=size_px, maps=(maps,), stride_px=16.0)


@pytest.fixture(scope="module")
def head():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SaliencyHead(32, 4)


def test_the_sizes_are_sams():
    head = SaliencyHead(256, 8)
    decoder = sum(p.numel() for p in head.mask_decoder.parameters())
    prompts = sum(p.numel() for p in head.prompt_encoder.parameters())
    assert (decoder, prompts) == (4_058_340, 6_220)
    assert not list(head.neck.parameters())


def test_logits_are_four_times_as_fine_as_the_map_and_probabilities_as_large_as_the_image(head):
    view = view_of()
    with torch.no_grad():
        logits = head(view)
        p = saliency(logits, view)
    assert logits.shape == (2, 1, 12, 16)
    assert p.shape == (2, 44, 64)
    assert 0 <= p.min() <= p.max() <= 1


def test_an_images_map_does_not_depend_on_the_others_of_its_batch(head):
    view = view_of()
    alone = View(view.size_px, maps=(view.maps[0][1:],), stride_px=16.0)
    with torch.no_grad():
        torch.testing.assert_close(head(alone), head(view)[1:], atol=1e-4, rtol=1e-4)


def test_without_a_prompt_the_answer_is_sams_own(sam, sam_weights):
    head = SaliencyHead(256, 64)
    head.start_from(read_state_dict(sam_weights))
    features = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.no_grad():
        expected, _ = sam.decode(features, multimask=False)
        logits = head(View((1024, 1024), maps=(features,), stride_px=16.0))
    torch.testing.assert_close(logits, expected)


def test_only_what_makes_the_mask_learns(head):
    learned = {name.split(".")[0] for name, p in head.named_parameters() if p.requires_grad}
    assert learned == {"neck", "mask_decoder", "prompt_encoder"}
    of_prompts = [name for name, p in head.prompt_encoder.named_parameters() if p.requires_grad]
    assert of_prompts == ["no_mask_embed.weight"]


def test_the_truth_is_averaged_over_cells_and_what_lies_beyond_the_image_has_no_weight():
    view = view_of()  # cells of 4 px cover 48 x 64, the image ends at row 44
    truth = torch.zeros(1, 44, 64)
    truth[:, :2, :4] = 1  # the upper half of the first cell
    truth[:, 40:, 60:] = 1  # the last whole cell
    target, weight = on_cells(truth, view, (12, 16))
    assert target.shape == (1, 12, 16)
    assert target[0, 0, 0] == 0.5
    assert target[0, 10, 15] == 1
    assert weight[:11].min() == 1
    assert weight[11].max() == 0
    np.testing.assert_allclose(target[0, :11].sum() * 16, truth.sum())


def test_the_loss_is_near_zero_for_the_truth_and_falls_on_the_way():
    view = view_of()
    truth = torch.zeros(2, 44, 64)
    truth[:, 8:24, 16:40] = 1
    target, _ = on_cells(truth, view, (12, 16))
    right = (target * 2 - 1)[:, None] * 12
    losses = [float(saliency_losses(right * share, view, truth)["loss"]) for share in (-1, 0, 0.5, 1)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-3


def test_losses_do_not_grow_with_the_batch():
    view = view_of()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 1, 12, 16, generator=generator)
    truth = torch.rand(1, 44, 64, generator=generator)
    one = saliency_losses(logits, view, truth)
    four = saliency_losses(logits.expand(4, -1, -1, -1), view, truth.expand(4, -1, -1))
    for name, value in one.items():
        torch.testing.assert_close(four[name], value)
