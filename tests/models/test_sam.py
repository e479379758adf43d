"""SAM against recorded output of the package's own graphs and of the published MobileSAM, and what it refuses."""

import json
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hvlabel.errors import PictureError, WeightsError
from hvlabel.models.padding import fitted, resized_hw
from hvlabel.models.prompts import PaddedEmbedding
from hvlabel.models.sam import Sam, SamPredictor, TinyViT, load_sam, tiny_vit
from hvlabel.models.sam.network import STRIDE_PX
from hvlabel.models.sam.tiny_vit import offset_index
from hvlabel.models.sam.vit import VisionTransformer

# of weights that are stored as float16 against the graphs' float32
HALF_EMBEDDING_ATOL, HALF_IOU_ATOL, HALF_PIXEL_SHARE = 3e-3, 5e-3, 2e-3
EMBEDDING_ATOL, FORMULA_LOGITS_MEAN = 1e-4, 5e-3


@pytest.fixture(scope="module")
def oracle(shared):
    folder = shared / "oracle" / "sam"
    sys.path.insert(0, str(folder))
    import fill_rule
    import images

    sys.path.remove(str(folder))
    return folder, images, fill_rule


@pytest.fixture(scope="module")
def small():
    """An untrained SAM of 256 px."""
    torch.manual_seed(3)
    return Sam(TinyViT(), 256).eval()


def recorded_prompts(stored):
    """(name, arguments of decode) of every recorded prompt; a mask prompt is named, not yet there."""
    for prompt in json.loads(str(stored["__prompts__"])):
        box = prompt.get("box")
        points, labels = prompt.get("points"), prompt.get("labels")
        if points is None and box is None:  # a mask alone: the graph got the padding point
            points, labels = [], []
        arguments = {
            "points_xy": None if points is None else np.array(points, float).reshape(1, -1, 2),
            "labels": None if labels is None else np.array(labels, int).reshape(1, -1),
            "boxes_xyxy": None if box is None else np.array(box, float)[None],
        }
        yield prompt["name"], arguments, prompt.get("mask_from")


@pytest.mark.parametrize("name", ["a", "b"])
def test_embeddings_masks_and_predicted_iou_are_those_of_the_graphs(oracle, sam, name):
    folder, images, _ = oracle
    picture = getattr(images, f"image_{name}")()
    predictor = SamPredictor(sam)
    embedding = predictor.embed(picture)
    stored = np.load(folder / f"image_{name}_embedding.npz")
    step = 1 if name == "a" else 4
    np.testing.assert_allclose(
        embedding.features[0, ::step, ::2, ::2].numpy(), stored["embedding_sub"], atol=HALF_EMBEDDING_ATOL
    )
    stored = np.load(folder / f"image_{name}_masks.npz")
    logits_of = {}
    for prompt, arguments, mask_from in recorded_prompts(stored):
        masks = None if mask_from is None else logits_of[mask_from[0]][:, [mask_from[1]]]
        single = predictor.decode(embedding, masks=masks, multimask=False, **arguments)
        three = predictor.decode(embedding, masks=masks, **arguments)
        logits_of[prompt] = torch.cat([single[0], three[0]], dim=1)
        iou = torch.cat([single[1], three[1]], dim=1)[0].numpy()
        np.testing.assert_allclose(iou, stored[f"{prompt}_iou4"], atol=HALF_IOU_ATOL, err_msg=prompt)
        chosen = int(stored[f"{prompt}_graph_choice"].ravel()[0])
        full = predictor.upscale(logits_of[prompt][0, [chosen]], embedding)[0].numpy() > 0
        expected = np.unpackbits(stored[f"{prompt}_graph_full_positive"], axis=-1)[:, : full.shape[1]].astype(bool)
        assert np.count_nonzero(full != expected) <= HALF_PIXEL_SHARE * full.size, prompt


def test_the_published_layout_is_folded_and_gives_the_published_output(oracle):
    folder, images, fill_rule = oracle
    shapes = fill_rule.read_shapes((folder / "keys_mobile_sam.txt").read_text())
    network = load_sam(fill_rule.fill_sorted(shapes, 11))
    stored = np.load(folder / "published_fill_seed11.npz")
    predictor = SamPredictor(network)
    embedding = predictor.embed(images.image_a())
    np.testing.assert_allclose(
        embedding.features[0, ::4, ::4, ::4].numpy(), stored["embedding_sub"], atol=EMBEDDING_ATOL
    )
    points = np.array(json.loads(str(stored["__meta__"]))["points_xy"])
    for kind, multimask in (("multi", True), ("single", False)):
        logits, iou = predictor.decode(embedding, points, multimask=multimask)
        # weights by formula multiply rounding errors: 7e-6 on the embedding moves a logit by up to .16
        difference = np.abs(logits[:, :, ::8, ::8].numpy() - stored[f"logits_{kind}_sub"])
        assert difference.mean() < FORMULA_LOGITS_MEAN
        np.testing.assert_allclose(iou, stored[f"iou_{kind}"], atol=HALF_IOU_ATOL)


def test_other_input_sizes(oracle, sam):
    folder, images, _ = oracle
    stored = np.load(folder / "own_other_sizes.npz")
    whole = images.image_a()
    for side, picture in ((512, whole[::2, ::2]), (768, whole[:576, :768])):
        network = Sam(sam.image_encoder, side)
        network.prompt_encoder.load_state_dict(sam.prompt_encoder.state_dict())
        network.mask_decoder.load_state_dict(sam.mask_decoder.state_dict())
        predictor = SamPredictor(network.eval())
        embedding = predictor.embed(picture)
        ours = embedding.features[0, ::8, ::2, ::2].numpy()
        np.testing.assert_allclose(ours, stored[f"s{side}_embedding_sub"], atol=HALF_EMBEDDING_ATOL)
        point = stored[f"s{side}_point_xy"].reshape(1, 2).astype(float)
        iou = torch.cat([predictor.decode(embedding, point, multimask=m)[1] for m in (False, True)], dim=1)
        np.testing.assert_allclose(iou[0], stored[f"s{side}_iou4"], atol=HALF_IOU_ATOL)


def test_pictures_are_resized_as_pillow_does():
    pillow = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for height, width in ((256, 342), (1500, 1100)):
        small = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        picture = np.asarray(pillow.fromarray(small).resize((width, height), pillow.Resampling.BICUBIC))
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
        ours, (h, w) = fitted(x, 1024)
        theirs = np.asarray(pillow.fromarray(picture).resize((w, h), pillow.Resampling.BILINEAR))
        difference = np.abs(ours[0].permute(1, 2, 0).numpy() - theirs)
        assert difference.max() <= 1.5
        assert difference.mean() <= 0.4


@pytest.mark.parametrize("bytes_at_once", [1 << 12, 3 << 15, 1 << 40])
def test_strips_change_nothing(small, monkeypatch, bytes_at_once):
    picture = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = small.encode(picture)
        monkeypatch.setattr(tiny_vit, "CACHED_BYTES", bytes_at_once)
        torch.testing.assert_close(small.encode(picture), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_is_its_images(small):
    pictures = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        together = small.encode(pictures)
        alone = torch.cat([small.encode(p[None]) for p in pictures])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_biases_follow_from_distances():
    index = offset_index(3).reshape(3, 3, 3, 3)
    assert index[0, 0, 2, 1] == index[2, 1, 0, 0] == 2 * 3 + 1
    assert index[1, 1, 1, 1] == 0
    assert index[0, 2, 1, 0] == index[1, 0, 0, 2] == 1 * 3 + 2


def test_padding_takes_part_as_the_norms_bias(small):
    """The published order: zeros to whole windows, then the norm, then attention over padding too."""
    attention = small.image_encoder.layers[1].blocks[0].attn
    x = torch.randn(1, 9, 11, 128, generator=torch.Generator().manual_seed(2))
    w, heads = attention.window, attention.num_heads
    with torch.inference_mode():
        padded = F.pad(x, (0, 0, 0, 3, 0, 5))  # 14 x 14
        plain = torch.zeros_like(padded)
        for top in (0, w):
            for left in (0, w):
                tokens = attention.norm(padded[0, top : top + w, left : left + w].reshape(w * w, -1))
                q, k, v = attention.qkv(tokens).view(w * w, heads, 3, 32).permute(2, 1, 0, 3)
                seen = F.scaled_dot_product_attention(q, k, v, attn_mask=attention.expanded_biases())
                plain[0, top : top + w, left : left + w] = attention.proj(
                    seen.transpose(0, 1).reshape(w * w, -1)
                ).reshape(w, w, -1)
        torch.testing.assert_close(attention(x), plain[:, :9, :11], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(60, 100), (100, 60), (256, 256), (1, 5)])
def test_both_steps_to_the_images_size_as_one(small, shape):
    predictor = SamPredictor(small)
    embedding = PaddedEmbedding(torch.zeros(1), shape, resized_hw(*shape, 256))
    logits = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(4))
    full = F.interpolate(logits[:, None], (256, 256), mode="bilinear", align_corners=False)
    cropped = full[..., : embedding.resized_hw[0], : embedding.resized_hw[1]]
    expected = F.interpolate(cropped, shape, mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(predictor.upscale(logits, embedding), expected, rtol=1e-4, atol=1e-5)


def test_boxes_by_the_lean_decoder_are_those_of_the_plain_one(small):
    predictor = SamPredictor(small)
    picture = np.random.default_rng(5).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    embedding = predictor.embed(picture)
    boxes = np.array([[10.0, 10, 60, 90], [100, 20, 190, 110], [0, 0, 200, 120]])
    for prior in (None, torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(6))):
        expected = predictor.decode(
            embedding, None, None if prior is None else prior[:, None], boxes_xyxy=boxes, multimask=False
        )
        logits, iou = predictor.decode_clear(embedding, boxes, prior)
        torch.testing.assert_close(logits, expected[0][:, 0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(iou, expected[1][:, 0], rtol=1e-3, atol=1e-4)
    assert predictor.decode_clear(embedding, np.zeros((0, 4)))[0].shape == (0, 64, 64)


def test_a_mask_becomes_a_prompt_where_it_is(small):
    predictor = SamPredictor(small)
    picture = np.zeros((128, 256, 3), np.uint8)
    mask = np.zeros((1, 128, 256), bool)
    mask[0, 64:, :128] = True
    prompt = predictor.mask_prompt(mask, predictor.embed(picture))[0]
    assert prompt.shape == (64, 64)
    assert (prompt[16:32, :32] > 0).all()
    assert (prompt[:16] < 0).all()
    assert (prompt[32:] < 0).all()  # padding


def test_features_for_a_student_span_the_picture(small):
    predictor = SamPredictor(small)
    assert predictor.tokens(np.zeros((100, 100, 3), np.uint8)).shape == (16, 16, 256)
    picture = np.random.default_rng(7).integers(0, 256, (60, 256, 3), dtype=np.uint8)
    assert predictor.tokens(picture).shape == (16, 16, 256)


def test_floats_in_the_unit_range_are_grey_levels(small):
    predictor = SamPredictor(small)
    grey = np.random.default_rng(8).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    unit = grey.astype(np.float32) / 255
    torch.testing.assert_close(predictor.prepare(grey)[0], predictor.prepare(unit)[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("picture", "what"),
    [
        (np.full((8, 8, 3), 200.0), "200"),
        (np.full((8, 8, 3), np.nan), "nan"),
        (np.full((8, 8, 3), -1.0), "-1"),
        (np.zeros((8, 8, 3), np.int32), "int32"),
        (np.zeros((8, 8), np.uint8), "three channels"),
        (np.zeros((8, 8, 4), np.uint8), "three channels"),
    ],
)
def test_other_pictures_are_refused(small, picture, what):
    with pytest.raises(PictureError, match=what):
        SamPredictor(small).embed(picture)


def vit_state(small, side_px=64):
    """A SAM ViT of a few tokens with the decoder of `small`."""
    torch.manual_seed(9)
    encoder = VisionTransformer(
        embed_dim=64, depth=2, num_heads=2, grid=side_px // STRIDE_PX, patch_px=16, window_px=14, global_blocks=(1,)
    )
    state = {f"image_encoder.{k}": v for k, v in encoder.state_dict().items()}
    return state | {k: v for k, v in small.state_dict().items() if not k.startswith("image_encoder.")}


def test_a_vit_is_told_by_its_keys(small):
    network = load_sam(vit_state(small), input_px=64)
    assert isinstance(network.image_encoder, VisionTransformer)
    assert [b.window_px for b in network.image_encoder.blocks] == [14, 0]
    embedding = SamPredictor(network).embed(np.zeros((64, 48, 3), np.uint8))
    assert embedding.features.shape == (1, 256, 4, 4)


def test_checkpoints_of_other_networks_are_refused(small):
    state = small.state_dict()
    with pytest.raises(WeightsError, match=r"x\.pt: no SAM.*mobile_sam"):
        load_sam({"layer.weight": torch.zeros(1)}, source="x.pt")
    with pytest.raises(WeightsError, match=r"missing.*mask_decoder.iou_token.weight"):
        load_sam({k: v for k, v in state.items() if k != "mask_decoder.iou_token.weight"})
    with pytest.raises(WeightsError, match=r"unknown.*extra"):
        load_sam({**state, "extra": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"wrong shape.*image_encoder.neck.0.weight"):
        load_sam({**state, "image_encoder.neck.0.weight": torch.zeros(3)})
    with pytest.raises(WeightsError, match="pictures of 64 px"):
        load_sam(vit_state(small), input_px=1024)
    with pytest.raises(WeightsError, match="not a whole SAM ViT"):
        load_sam({"image_encoder.pos_embed": torch.zeros(1, 4, 4, 8)})
    broken = {k: v for k, v in state.items() if k != "image_encoder.patch_embed.seq.0.c.bias"}
    broken["image_encoder.patch_embed.seq.0.bn.weight"] = torch.ones(32)
    with pytest.raises(WeightsError, match=r"patch_embed\.seq\.0\.bn"):
        load_sam(broken)


def test_bfloat16_is_nearly_float32(oracle, sam):
    _, images, _ = oracle
    picture = images.image_a()
    exact, fast = SamPredictor(sam).embed(picture), SamPredictor(sam, half=True).embed(picture)
    assert fast.features.dtype == torch.float32
    similar = F.cosine_similarity(exact.features.flatten(), fast.features.flatten(), dim=0)
    assert float(similar) > 0.999
