"""A prompt decoder, what is seen of it from outside, and the tap that sees what it makes inside."""

import pytest
import torch

from hvlabel.models.decoder import MaskDecoder, PromptedNetwork, PromptEncoder
from hvtrain.heads.first_weights import listen_to_prompts
from hvtrain.heads.prompted import Prompts, answer
from hvtrain.heads.shortcut import masks_of
from hvtrain.heads.tap import DecoderTap


class Decoder(PromptedNetwork):
    """A decoder of 32 channels over an 8 x 8 map of a 64 px input."""

    def __init__(self):
        super().__init__()
        self.prompt_encoder = PromptEncoder(32, 8, 64, 16)
        self.mask_decoder = MaskDecoder(32, 4, 64, 32)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Decoder().eval()


def asked(n=2, **changes):
    points = torch.tensor([[[8.0, 8.0]], [[50.0, 40.0]]])[:n]
    prompts = {"points_xy": points, "labels": torch.ones(n, 1, dtype=torch.int64), **changes}
    return [torch.randn(n, 32, 8, 8, generator=torch.Generator().manual_seed(1))], Prompts(**prompts)


@torch.no_grad()
@pytest.mark.parametrize(("multimask", "n_answers"), [(True, 3), (False, 1)])
def test_a_prompt_has_three_answers_or_one(network, multimask, n_answers):
    logits, iou = answer(network, *asked(multimask=multimask))
    assert logits.shape == (2, n_answers, 32, 32)
    assert iou.shape == (2, n_answers)


@torch.no_grad()
def test_boxes_and_earlier_answers_are_prompts_too(network):
    boxes = torch.tensor([[4.0, 4.0, 20.0, 20.0], [30.0, 30.0, 60.0, 60.0]])
    of_points, _ = answer(network, *asked())
    of_boxes, _ = answer(network, *asked(points_xy=None, labels=None, boxes_xyxy=boxes))
    of_masks, _ = answer(network, *asked(masks=torch.randn(2, 1, 32, 32)))
    assert not torch.equal(of_points, of_boxes)
    assert not torch.equal(of_points, of_masks)


@torch.no_grad()
def test_what_the_tap_holds_makes_the_decoders_masks(network):
    tap = DecoderTap(network.mask_decoder)
    for n in (2, 1):  # the second call replaces the first
        logits, _ = answer(network, *asked(n))
        assert tap.vectors.shape == (n, 3, 4)
        for k in range(3):
            torch.testing.assert_close(masks_of(tap.vectors[:, k], tap.upscaled)[:, 0], logits[:, k])


@torch.no_grad()
def test_first_weights_make_answers_depend_on_the_prompt_and_begin_empty(network):
    listen_to_prompts(network.mask_decoder, network.prompt_encoder)
    maps, prompts = asked()
    maps[0][1] = maps[0][0]
    logits, _ = answer(network, maps, prompts)
    assert (logits[0] - logits[1]).std() > 0.05 * logits.std()
    assert (logits > 0).float().mean() < 0.5
