"""The lean decoder against the plain one."""

from itertools import product

import numpy as np
import pytest
import torch
from small_networks import small_topology

from hvlabel.models.hyperfree import HyperFree, HyperFreePredictor
from hvlabel.models.two_way import image_side, two_way
from hvlabel.models.two_way.upscaling import in_rows

SMALL = small_topology(out_dim=32, decoder_heads=4, decoder_mlp=16)


@pytest.mark.parametrize(("tokens", "grid"), [(7, (8, 8)), (9, (5, 12)), (1, (2, 3))])
def test_the_lean_transformer_is_the_plain_one(tokens, grid):
    torch.manual_seed(0)
    plain = HyperFree(SMALL).mask_decoder
    image, code = torch.randn(1, 32, *grid), torch.randn(1, 32, *grid)
    prompts = torch.randn(5, tokens, 32)
    with torch.inference_mode():
        expected = plain.transformer(image.expand(5, -1, -1, -1), code, prompts)
        for kept in (slice(None), slice(0, 1), [0, -1]):
            found = two_way(plain.transformer, image_side(plain, image, code, []), prompts, kept)
            torch.testing.assert_close(found[0], expected[0][:, kept], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-5)


def test_masks_below_the_predicted_iou_are_left_out_and_the_others_are_as_decoded():
    torch.manual_seed(1)
    model = HyperFreePredictor(HyperFree(SMALL).eval(), [500.0, 600.0])
    embedding = model.embed(np.random.default_rng(0).uniform(0, 1, (60, 40, 2)).astype(np.float32))
    points = np.random.default_rng(1).uniform(0, 40, (21, 2))
    logits, iou = model.decode(embedding, points)
    between = float(iou.flatten().sort().values[31:33].mean())  # of the 63: no prediction is as high as the threshold
    for threshold in (None, between, 99.0):
        keep = iou > (-99 if threshold is None else threshold)
        found = model.decode_above(embedding, points, threshold)
        torch.testing.assert_close(found.logits, logits[keep], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.iou, iou[keep], rtol=1e-4, atol=1e-5)
        assert found.prompt.tolist() == keep.nonzero()[:, 0].tolist()


def test_masks_are_put_into_rows_as_the_transposed_convolutions_would():
    for dtype in (torch.float32, torch.bfloat16):
        cells = torch.arange(2 * 6 * 16).view(2, 96).to(dtype)
        rows = in_rows(cells, (2, 3))
        for r, c, r1, c1, r2, c2 in product(range(2), range(3), *[range(2)] * 4):
            place = ((((r * 3 + c) * 2 + r1) * 2 + c1) * 2 + r2) * 2 + c2
            assert torch.equal(rows[:, 4 * r + 2 * r1 + r2, 4 * c + 2 * c1 + c2], cells[:, place])
        assert in_rows(cells[:0], (2, 3)).shape == (0, 8, 12)


@pytest.mark.parametrize("half", [False, True])
def test_a_prediction_has_the_same_bits_in_any_batch(half):
    torch.manual_seed(1)
    predictor = HyperFreePredictor(HyperFree(SMALL).eval(), [500.0, 600.0], half=half)
    embedding = predictor.embed(np.random.default_rng(0).uniform(0, 1, (60, 40, 2)).astype(np.float32))
    points = np.random.default_rng(1).uniform(0, 40, (70, 2))
    whole = predictor.decode_above(embedding, points, None)
    for size in (1, 5, 17):
        parts = [predictor.decode_above(embedding, points[k : k + size], None) for k in range(0, 70, size)]
        assert torch.equal(torch.cat([p.iou for p in parts]), whole.iou)
        torch.testing.assert_close(torch.cat([p.logits for p in parts]), whole.logits, rtol=1e-5, atol=1e-5)


def test_half_precision_changes_masks_a_little():
    torch.manual_seed(1)
    network, nm = HyperFree(SMALL).eval(), [500.0, 600.0]
    image = np.random.default_rng(0).uniform(0, 1, (60, 40, 2)).astype(np.float32)
    points = np.random.default_rng(1).uniform(0, 40, (21, 2))
    full, half = (HyperFreePredictor(network, nm, half=h) for h in (False, True))
    wanted, found = (p.decode_above(p.embed(image), points, None) for p in (full, half))
    assert found.logits.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in network.parameters())
    both = torch.stack([found.logits.float().flatten(), wanted.logits.flatten()])
    assert 0.95 < torch.corrcoef(both)[0, 1] < 1
    torch.testing.assert_close(found.iou, wanted.iou, rtol=0.05, atol=0.02)
