"""The point-grid generator against recorded output of the published one."""

import json
from itertools import product
from math import ceil

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from hvlabel.branches.generator import crop_boxes, generate_masks, point_grid
from hvlabel.branches.points import CropBox, CropRun, exact_masks, fast_masks, outer_boxes
from hvlabel.branches.points.boxes import box_bounds, least_iou
from hvlabel.config import GeneratorSettings
from hvlabel.errors import DeviceMemoryError
from hvlabel.masks import decode, iou_matrix
from hvlabel.models.batches import Ceilings, bytes_per_point, in_batches, plan_points
from hvlabel.models.hyperfree import HyperFree, HyperFreePredictor, Topology
from hvlabel.models.two_way import DecodedMasks, image_side, two_way
from hvlabel.models.two_way.upscaling import in_rows

HYPERFREE_DEFAULTS = {"pred_iou_thresh": 0.88, "stability_score_thresh": 0.95}


def analytic_logits(points_xy, img_size):
    """Closed-form stand-in for a decoder: discs with texture around each point, and an IoU that varies with place."""
    n = img_size // 4
    p = points_xy.to(torch.float32)
    c = (torch.arange(n, dtype=torch.float32) + 0.5) * 4
    gx, gy = c[None, None, None, :], c[None, None, :, None]
    px, py = p[:, 0].reshape(-1, 1, 1, 1), p[:, 1].reshape(-1, 1, 1, 1)
    radii = torch.tensor([0.06, 0.15, 0.33]).reshape(1, 3, 1, 1) * img_size * (1 + 0.5 * torch.sin(px * 0.9 + py * 0.4))
    texture = torch.sin(gx * 0.35 + px) * torch.cos(gy * 0.29 - py)
    logits = (radii - torch.sqrt((gx - px) ** 2 + (gy - py) ** 2)) * 5.0 + torch.tensor([0.0, 25.0, 60.0]).reshape(
        1, 3, 1, 1
    ) * texture
    return logits, 0.55 + 0.45 * torch.cos(torch.tensor([[1.0, 2.0, 3.0]]) * (p[:, :1] * 0.37 + p[:, 1:] * 0.11))


class AnalyticNetwork(HyperFree):
    """Real preprocessing and upscaling around the analytic decoder."""

    def encode(self, image, *args, **kwargs):
        return [torch.zeros(1, 8, 8, 8)]

    def decode(self, features, *, points_xy, multimask=True, **kwargs):
        logits, iou = analytic_logits(points_xy[:, 0], self.topology.image_size_px)
        return (logits, iou) if multimask else (logits[:, :1], iou[:, :1])


class AnalyticPredictor(HyperFreePredictor):
    def decode_above(self, embedding, points_xy, min_iou):
        logits, iou = self.decode(embedding, points_xy)
        keep = iou > (-1 if min_iou is None else min_iou)
        return DecodedMasks(logits[keep], iou[keep], keep.nonzero()[:, 0])


@pytest.fixture
def predictor():
    topology = Topology(
        image_size_px=128,
        patch_px=16,
        embed_dim=8,
        depth=1,
        num_heads=2,
        window_px=4,
        global_blocks=(0,),
        out_dim=8,
        decoder_heads=2,
        mask_channels=4,
        decoder_mlp=8,
        iou_hidden=8,
    )
    return AnalyticPredictor(AnalyticNetwork(topology), [500.0])


@pytest.mark.parametrize("name", ["amg_default_thresh", "amg_demo_thresh"])
def test_same_masks_in_the_same_order_as_published(shared, predictor, name):
    stored = np.load(shared / "oracle" / "hyperfree" / f"{name}.npz")
    meta, records = json.loads(str(stored["__meta__"])), json.loads(str(stored["records"]))
    height, width = meta["image_hw"]
    masks = np.unpackbits(stored["seg_packed"], axis=2)[:, :, :width].astype(bool)
    found = generate_masks(
        predictor,
        np.ones((height, width, 1), np.uint8),
        GeneratorSettings(mode="exact", **{**HYPERFREE_DEFAULTS, **meta["kwargs"]}),
        "material",
    )
    assert len(found) == len(records)
    for ours, theirs, mask in zip(found, records, masks, strict=True):
        np.testing.assert_array_equal(decode(ours.rle), mask)
        assert ours.predicted_iou == pytest.approx(theirs["predicted_iou"], abs=1e-4)
        assert ours.stability_score == pytest.approx(theirs["stability_score"], abs=1e-4)
        assert ours.point_xy == pytest.approx(theirs["point_coords"][0], abs=1e-3)
        assert ours.crop_box_xywh == pytest.approx(theirs["crop_box"])


@pytest.mark.parametrize(("tokens", "grid"), [(7, (8, 8)), (9, (5, 12)), (1, (2, 3))])
def test_the_lean_transformer_is_the_plain_one(tokens, grid):
    torch.manual_seed(0)
    plain = HyperFree(Topology(image_size_px=64, patch_px=16, embed_dim=8, depth=1, num_heads=2, window_px=4, global_blocks=(0,), out_dim=32, decoder_heads=4, mask_channels=4, decoder_mlp=16, iou_hidden=8)).mask_decoder  # fmt: skip
    image, code = torch.randn(1, 32, *grid), torch.randn(1, 32, *grid)
    prompts = torch.randn(5, tokens, 32)
    with torch.inference_mode():
        expected = plain.transformer(image.expand(5, -1, -1, -1), code, prompts)
        for wanted in (slice(None), slice(0, 1), [0, -1]):
            found = two_way(plain.transformer, image_side(plain, image, code, []), prompts, wanted)
            torch.testing.assert_close(found[0], expected[0][:, wanted], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-5)


def test_masks_below_the_predicted_iou_are_left_out_and_the_others_are_as_decoded():
    torch.manual_seed(1)
    topology = Topology(image_size_px=64, patch_px=16, embed_dim=8, depth=1, num_heads=2, window_px=4, global_blocks=(0,), out_dim=32, decoder_heads=4, mask_channels=4, decoder_mlp=16, iou_hidden=8)  # fmt: skip
    model = HyperFreePredictor(HyperFree(topology).eval(), [500.0, 600.0])
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


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_batch_size_does_not_change_the_result(predictor, mode):
    image = np.ones((80, 112, 1), np.uint8)
    settings = GeneratorSettings(mode=mode, points_per_side=8, pred_iou_thresh=0.6, stability_score_thresh=0.6)
    runs = [
        generate_masks(predictor, image, settings.model_copy(update={"points_per_batch": b}), "rgb") for b in (7, 64)
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) > 5


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_a_batch_that_does_not_fit_is_halved_and_changes_nothing(predictor, mode):
    image = np.ones((80, 112, 1), np.uint8)
    settings = GeneratorSettings(mode=mode, points_per_side=8, pred_iou_thresh=0.6, stability_score_thresh=0.6)
    wanted = generate_masks(predictor, image, settings, "material")
    decode, tried = predictor.decode_above, []

    def small_device(embedding, points_xy, min_iou):
        tried.append(len(points_xy))
        if len(points_xy) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(embedding, points_xy, min_iou)

    predictor.decode_above = small_device
    assert generate_masks(predictor, image, settings, "material") == wanted
    assert tried == [64, 32, 16, 16, 16, 16]
    assert predictor.ceilings.lowered() == {"points": 16}
    assert generate_masks(predictor, image, settings, "material") == wanted
    assert tried[6:] == [16] * 4, "the next image starts with what fits"


def test_a_short_last_part_that_fails_once_lowers_nothing_for_good():
    ceilings, tried = Ceilings(), []

    def call(part):
        tried.append(part.stop - part.start)
        if tried[-1] == 5 and tried.count(5) == 1:
            raise torch.OutOfMemoryError
        return part

    parts = [p for p, _ in in_batches(69, 64, ceilings, "points", call)]
    assert tried == [64, 5, 2, 2, 1]
    assert [p.stop for p in parts] == [64, 66, 68, 69]
    assert ceilings.lowered() == {}


def test_a_device_too_small_for_one_point_is_refused_in_one_sentence(predictor):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    predictor.decode_above = no_memory
    with pytest.raises(DeviceMemoryError, match=r"memory for one of the points .* run.device: cpu"):
        generate_masks(predictor, np.ones((80, 112, 1), np.uint8), GeneratorSettings(points_per_side=4), "material")


def test_the_plan_grows_with_the_network_and_the_image(predictor):
    decoder = predictor.network.mask_decoder
    small, fine, large = (bytes_per_point(decoder, g, s) for g, s in ((8, 128), (16, 128), (8, 1024)))
    assert small < fine
    assert large - small == 3 * 9 * (1024**2 - 128**2)
    assert plan_points(64, small, torch.device("cpu"), predictor.ceilings) == ""
    assert predictor.ceilings.lowered() == {}


@pytest.mark.parametrize("changes", [{}, {"crop_n_layers": 1}, {"stability_score_thresh": 0.0}])
def test_fast_masks_are_nearly_the_exact_ones_and_pass_the_same_filters(predictor, changes):
    image = np.ones((80, 112, 1), np.uint8)
    settings = GeneratorSettings(
        points_per_side=12, **{"pred_iou_thresh": 0.6, "stability_score_thresh": 0.6, "box_nms_thresh": 0.5, **changes}
    )
    fast = generate_masks(predictor, image, settings, "rgb")
    exact = generate_masks(predictor, image, settings.model_copy(update={"mode": "exact"}), "rgb")
    assert min(m.stability_score for m in fast) >= settings.stability_score_thresh
    assert min(m.predicted_iou for m in fast) > settings.pred_iou_thresh
    iou = iou_matrix([m.rle for m in fast], [m.rle for m in exact])
    assert iou.max(axis=0).mean() > 0.98
    assert iou.max(axis=1).mean() > 0.98
    assert len(exact) > 10


def test_boxes_end_at_the_outermost_pixels_and_an_empty_mask_has_a_place():
    masks = torch.zeros(3, 20, 30, dtype=torch.bool)
    masks[0, 4:9, 7:20] = True
    masks[2, 19, 29] = masks[2, 0, 3] = True
    assert outer_boxes(masks).tolist() == [[7, 4, 19, 8], [0, 0, 0, 0], [3, 0, 29, 19]]


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize("scale", [4, 2, 1.3, 1, 0.5])
def test_a_mask_ends_between_the_bounds_told_at_low_resolution(scale, rough):
    logits = torch.randn(60, 40, 48, generator=torch.Generator().manual_seed(0)).round() - 1 if rough else blobs(60)
    height, width = round(40 * scale), round(48 * scale)
    full = torch.nn.functional.interpolate(logits[:, None], (height, width), mode="bilinear")[:, 0]
    boxes = outer_boxes(full > 0) + torch.tensor([5, 7, 5, 7])
    inner, outer = box_bounds(logits, (40, 48), (5, 7, 5 + width, 7 + height))
    there = (full > 0).flatten(1).any(dim=1)
    assert ((outer[:, :2] <= boxes[:, :2]) & (outer[:, 2:] >= boxes[:, 2:]))[there].all()
    known = (inner[:, 2:] > inner[:, :2]).all(dim=1)
    assert ((boxes[:, :2] <= inner[:, :2]) & (boxes[:, 2:] >= inner[:, 2:]))[known].all()
    assert there.sum() > 50
    assert (known.sum() > 50) == (scale >= 1 and not rough)
    if not rough and known.any():
        assert (outer - inner)[known].abs().median() <= scale + 1


@pytest.mark.parametrize("hw", [(96, 128), (300, 150), (4, 300), (200, 31)])
def test_bounds_hold_where_the_upsampling_takes_two_steps_and_leaves_the_padding_out(predictor, hw):
    embedding = predictor.embed(np.ones((*hw, 1), np.uint8))
    n = predictor.network.topology.decoder_grid * 4
    smooth = torch.nn.functional.interpolate(blobs(60)[:, None], (n, n), mode="bilinear")[:, 0]
    rows, columns = predictor.covered_hw(smooth, embedding)
    seen = smooth[:, : ceil(rows) + 1, : ceil(columns) + 1]
    inner, outer = box_bounds(seen, (rows, columns), (0, 0, hw[1], hw[0]), predictor.slack_cells)
    full = predictor.upscale(smooth, embedding) > 0
    boxes, there = outer_boxes(full), full.flatten(1).any(dim=1)
    assert there.sum() > 5
    assert ((outer[:, :2] <= boxes[:, :2]) & (outer[:, 2:] >= boxes[:, 2:]))[there].all()
    known = (inner[:, 2:] > inner[:, :2]).all(dim=1)
    assert ((boxes[:, :2] <= inner[:, :2]) & (boxes[:, 2:] >= inner[:, 2:]))[known].all()


def test_the_least_iou_is_one_that_a_box_between_the_bounds_has():
    rng = np.random.default_rng(0)
    inner = np.concatenate([rng.uniform(0, 40, (200, 2)), rng.uniform(45, 90, (200, 2))], axis=1)
    margin = rng.uniform(0, 12, (200, 4)) * [-1, -1, 1, 1]
    box = np.array([20, 25, 70, 80.0])
    least = least_iou(box, inner, inner + margin)
    ious = []
    for share in (0, 0.3, 0.7, 1):
        between = torch.from_numpy(inner + share * margin)
        iou = box_iou(torch.from_numpy(box)[None], between)[0].numpy()
        assert (least <= iou + 1e-9).all()
        ious.append(iou)
    assert np.median(np.min(ious, axis=0) - least) < 0.1
    np.testing.assert_allclose(least_iou(box, inner, inner), ious[0])


class CountingModel:
    """Answers with the same masks whatever it is asked; counts those that are upsampled."""

    def __init__(self, logits, iou, size_hw):
        self.masks, self.upsampled, self.ceilings = DecodedMasks(logits, iou, torch.arange(len(iou))), 0, Ceilings()
        self.size_hw, self.slack_cells = size_hw, 0.0

    def decode_above(self, embedding, points, min_iou):
        return self.masks

    def covered_hw(self, logits, embedding):
        return logits.shape[1:]

    def upscale(self, logits, embedding):
        self.upsampled += len(logits)
        return torch.nn.functional.interpolate(logits[:, None], self.size_hw, mode="bilinear")[:, 0]


@pytest.mark.parametrize("threshold", [0.7, 0.8])
@pytest.mark.parametrize("size_hw", [(160, 192), (40, 48), (20, 24)])
def test_copies_of_kept_masks_are_never_upsampled_and_the_rest_is_what_the_published_order_leaves(size_hw, threshold):
    logits = torch.cat([blobs(50) + 0.01 * k for k in range(4)])
    iou = torch.from_numpy(np.random.default_rng(2).permutation(200) / 200)
    grid = np.zeros((200, 2))
    settings = {
        "points_per_batch": 200, "stability_score_thresh": 0, "pred_iou_thresh": 0, "box_nms_thresh": threshold
    }  # fmt: skip
    crop = CropBox((0, 0, size_hw[1], size_hw[0]), size_hw)
    model = CountingModel(logits, iou, size_hw)
    exact = exact_masks(CropRun(model, None, crop, GeneratorSettings(mode="exact", **settings)), grid)
    assert model.upsampled == 200
    fast = fast_masks(CropRun(model, None, crop, GeneratorSettings(**settings)), grid)
    assert (model.upsampled - 200 < 150) == (size_hw[0] >= 40)
    assert fast.rles == exact.rles
    assert fast.iou == exact.iou
    assert len(fast.rles) > 10


def test_boxes_at_the_threshold_are_kept_or_removed_as_published():
    nested = torch.full((3, 40, 40), -1.0)
    for k, height in enumerate((11, 9, 8)):  # boxes of 10, 8 and 7 px, widths counted without the last px
        nested[k, 5 : 5 + height, 5:16] = 1
    model = CountingModel(nested, torch.tensor([0.9, 0.8, 0.7]), (40, 40))
    settings = {"points_per_batch": 3, "stability_score_thresh": 0, "pred_iou_thresh": 0, "box_nms_thresh": 0.8}
    crop, grid = CropBox((0, 0, 40, 40), (40, 40)), np.zeros((3, 2))
    exact = exact_masks(CropRun(model, None, crop, GeneratorSettings(mode="exact", **settings)), grid)
    assert fast_masks(CropRun(model, None, crop, GeneratorSettings(**settings)), grid).iou == exact.iou


def test_masks_are_put_into_rows_as_the_transposed_convolutions_would():
    for dtype in (torch.float32, torch.bfloat16):
        cells = torch.arange(2 * 6 * 16).view(2, 96).to(dtype)
        rows = in_rows(cells, (2, 3))
        for r, c, r1, c1, r2, c2 in product(range(2), range(3), *[range(2)] * 4):
            place = ((((r * 3 + c) * 2 + r1) * 2 + c1) * 2 + r2) * 2 + c2
            assert torch.equal(rows[:, 4 * r + 2 * r1 + r2, 4 * c + 2 * c1 + c2], cells[:, place])
        assert in_rows(cells[:0], (2, 3)).shape == (0, 8, 12)


def blobs(n):
    """(n, 40, 48) smooth logits, the highest tenth above 0."""
    rng = np.random.default_rng(0)
    smooth = torch.from_numpy(np.stack([cv2.GaussianBlur(rng.normal(size=(40, 48)), (0, 0), 4) for _ in range(n)]))
    return smooth.float() - smooth.float().flatten(1).quantile(0.9, dim=1)[:, None, None]


@pytest.mark.parametrize("half", [False, True])
def test_a_prediction_has_the_same_bits_in_any_batch(half):
    torch.manual_seed(1)
    topology = Topology(image_size_px=64, patch_px=16, embed_dim=8, depth=1, num_heads=2, window_px=4, global_blocks=(0,), out_dim=32, decoder_heads=4, mask_channels=4, decoder_mlp=16, iou_hidden=8)  # fmt: skip
    predictor = HyperFreePredictor(HyperFree(topology).eval(), [500.0, 600.0], half=half)
    embedding = predictor.embed(np.random.default_rng(0).uniform(0, 1, (60, 40, 2)).astype(np.float32))
    points = np.random.default_rng(1).uniform(0, 40, (70, 2))
    whole = predictor.decode_above(embedding, points, None)
    for size in (1, 5, 17):
        parts = [predictor.decode_above(embedding, points[k : k + size], None) for k in range(0, 70, size)]
        assert torch.equal(torch.cat([p.iou for p in parts]), whole.iou)
        torch.testing.assert_close(torch.cat([p.logits for p in parts]), whole.logits, rtol=1e-5, atol=1e-5)


def test_half_precision_changes_masks_a_little():
    torch.manual_seed(1)
    topology = Topology(image_size_px=64, patch_px=16, embed_dim=8, depth=1, num_heads=2, window_px=4, global_blocks=(0,), out_dim=32, decoder_heads=4, mask_channels=4, decoder_mlp=16, iou_hidden=8)  # fmt: skip
    network, nm = HyperFree(topology).eval(), [500.0, 600.0]
    image = np.random.default_rng(0).uniform(0, 1, (60, 40, 2)).astype(np.float32)
    points = np.random.default_rng(1).uniform(0, 40, (21, 2))
    full, half = (HyperFreePredictor(network, nm, half=h) for h in (False, True))
    wanted, found = (p.decode_above(p.embed(image), points, None) for p in (full, half))
    assert found.logits.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in network.parameters())
    both = torch.stack([found.logits.float().flatten(), wanted.logits.flatten()])
    assert 0.95 < torch.corrcoef(both)[0, 1] < 1
    torch.testing.assert_close(found.iou, wanted.iou, rtol=0.05, atol=0.02)


def test_crops_without_survivors_give_no_masks(predictor):
    settings = GeneratorSettings(points_per_side=4, pred_iou_thresh=2.0, crop_n_layers=1)
    assert generate_masks(predictor, np.ones((64, 64, 1), np.uint8), settings, "rgb") == []


@given(st.integers(1, 40))
def test_grid_points_are_centred_in_equal_cells(n):
    grid = point_grid(n)
    assert grid.shape == (n * n, 2)
    np.testing.assert_allclose(np.sort(np.unique(grid[:, 0].round(12))), (np.arange(n) + 0.5) / n)


@given(st.integers(20, 300), st.integers(20, 300), st.integers(0, 2))
def test_crops_cover_the_image(height, width, n_layers):
    for layer in range(n_layers + 1):
        seen = np.zeros((height, width), bool)
        boxes = [box for box, k in crop_boxes(height, width, n_layers, 512 / 1500) if k == layer]
        assert len(boxes) == 4**layer
        for x0, y0, x1, y1 in boxes:
            seen[y0:y1, x0:x1] = True
        assert seen.all()
