"""Our HyperFree against outputs recorded from the published code."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from hvlabel.models.hyperfree import (
    HyperFree,
    HyperFreePredictor,
    Topology,
    choose_channels,
    load_hyperfree,
    published_topology,
)
from hvlabel.models.hyperfree.checkpoint import infer_topology

TOPOLOGIES = ("A_nomerge_p4", "B_merge_p16", "C_nomerge_p16")
CAMERAS = ("b15_600_850", "b31_400_700", "b204_400_1000")
CASES = [(t, c) for t in TOPOLOGIES for c in CAMERAS]


def close(ours, recorded):
    np.testing.assert_allclose(
        np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours), recorded, rtol=1e-3, atol=1e-3
    )


@pytest.fixture(scope="module")
def oracle(shared) -> Path:
    return shared / "oracle" / "hyperfree"


def weights(oracle, topology):
    stored = np.load(oracle / f"hyperfree_{topology}_weights.npz")
    config = json.loads(str(stored["__config__"]))
    return {k: torch.from_numpy(stored[k].astype(np.float32)) for k in stored.files if not k.startswith("__")}, config


def network(oracle, topology):
    state, config = weights(oracle, topology)
    merge = tuple(config["merge_indexs"]) if config["merge_indexs"] else None
    return load_hyperfree(
        state, merge_blocks=merge, decoder_heads=config["decoder_heads"], image_size_px=config["img_size"]
    )


def case(oracle, topology, camera):
    stored = np.load(oracle / f"hyperfree_{topology}_{camera}.npz")
    return stored, json.loads(str(stored["__meta__"]))


@pytest.mark.parametrize(("topology", "camera"), CASES)
def test_channel_choice_tokens_and_features(oracle, topology, camera):
    stored, meta = case(oracle, topology, camera)
    chosen = choose_channels(meta["wavelengths"])
    assert list(chosen.key_channels) == stored["idx_key_channels"].tolist()
    assert list(chosen.key_slots) == stored["idx_key_bank"].tolist()
    assert list(chosen.cube_channels) == stored["idx_cube_channels"].tolist()
    assert list(chosen.cube_slots) == stored["idx_cube_bank"].tolist()

    net = network(oracle, topology)
    x, size = HyperFreePredictor(net, meta["wavelengths"]).prepare(stored["input_hwc_uint8"])
    assert list(size) == stored["input_size"].tolist()
    gsd_m = torch.tensor(meta["gsd"])
    position = net.image_encoder.position_code(gsd_m)
    close(position, stored["pos_embed"])
    close(net.image_encoder.tokens(x, chosen) + position, stored["tokens_plus_pos"])
    maps = net.encode(x, meta["wavelengths"], meta["gsd"])
    assert len(maps) == int(stored["n_feats"])
    for k, ours in enumerate(maps):
        close(ours, stored[f"feat{k}"])


@pytest.mark.parametrize(("topology", "camera"), [c for c in CASES if c[0] != "B_merge_p16"])
def test_point_box_and_mask_prompts(oracle, topology, camera):
    stored, meta = case(oracle, topology, camera)
    net = network(oracle, topology)
    predictor = HyperFreePredictor(net, meta["wavelengths"])
    x, size = predictor.prepare(stored["input_hwc_uint8"])
    features = net.encode(x, meta["wavelengths"], meta["gsd"])[-1]
    h, w = stored["input_hwc_uint8"].shape[:2]
    scale = np.array([size[1] / w, size[0] / h])
    points = torch.as_tensor(np.array(meta["points_xy"]) * scale)
    ones = torch.ones(3, 1, dtype=torch.int32)

    logits, iou = net.decode(features, points_xy=points[:, None], labels=ones)
    close(logits, stored["low_res_multi"])
    close(iou, stored["iou_multi"])
    logits, iou = net.decode(features, points_xy=points[:, None], labels=ones, multimask=False)
    close(logits, stored["low_res_single"])
    close(iou, stored["iou_single"])
    box = torch.as_tensor(np.array([2, 3, 0.6 * w, 0.7 * h]) * np.tile(scale, 2))[None]
    logits, iou = net.decode(features, points_xy=points[None, :2], labels=torch.tensor([[1, 0]]), boxes_xyxy=box)
    close(logits, stored["low_res_box_pts"])
    close(iou, stored["iou_box_pts"])
    prior = torch.from_numpy(stored["low_res_single"][:1].astype(np.float32))
    logits, iou = net.decode(features, points_xy=points[:1, None], labels=ones[:1], masks=prior)
    close(logits, stored["low_res_maskprompt"])
    close(iou, stored["iou_maskprompt"])


@pytest.mark.parametrize("topology", ["A_nomerge_p4", "C_nomerge_p16"])
def test_full_resolution_logits(oracle, topology):
    stored, meta = case(oracle, topology, "b31_400_700")
    predictor = HyperFreePredictor(network(oracle, topology), meta["wavelengths"])
    image = stored["input_hwc_uint8"]
    side = predictor.network.topology.image_size_px
    predictor.gsd_m = meta["gsd"][0] * side / max(image.shape[:2])  # recorded with the effective value
    embedding = predictor.embed(image)
    low, _ = predictor.decode(embedding, np.array(meta["points_xy"]))
    full = predictor.upscale(low.flatten(0, 1), embedding)
    recorded = stored["mask_logits_fullres"].astype(np.float32)
    np.testing.assert_allclose(
        full.reshape(recorded.shape), recorded, rtol=2e-3, atol=2e-3
    )  # recorded in half precision


def test_training_mode_draws_the_published_slots(oracle):
    for topology in TOPOLOGIES:
        stored, meta = case(oracle, topology, "b204_400_1000")
        chosen = choose_channels(meta["wavelengths"], random.Random(7))
        assert list(chosen.cube_channels) == stored["testmodeFalse_seed7_idx_cube_channels"].tolist()
        net = network(oracle, topology)
        x, _ = HyperFreePredictor(net, meta["wavelengths"]).prepare(stored["input_hwc_uint8"])
        maps = net.encode(x, meta["wavelengths"], meta["gsd"], test_mode=False, rng=random.Random(7))
        close(maps[-1], stored["testmodeFalse_seed7_feat_last"])


def test_contrastive_helper(oracle):
    stored = np.load(oracle / "hyperfree_C_convert_semantic_feature.npz")
    close(
        network(oracle, "C_nomerge_p16").image_encoder.semantic_feature(
            torch.from_numpy(stored["x"].astype(np.float32))
        ),
        stored["y"],
    )


def test_prompts_decode_after_merging(oracle):
    stored, meta = case(oracle, "B_merge_p16", "b31_400_700")
    net = network(oracle, "B_merge_p16")
    x, _ = HyperFreePredictor(net, meta["wavelengths"]).prepare(stored["input_hwc_uint8"])
    features = net.encode(x, meta["wavelengths"], meta["gsd"])[-1]
    logits, _ = net.decode(features, points_xy=torch.tensor([[[10.0, 10.0]]]), labels=torch.ones(1, 1))
    assert logits.shape == (1, 3, 4 * features.shape[-1], 4 * features.shape[-1])


def fill_sorted(state, seed):
    """The rule by which the recorded full-size fingerprints were given weights."""
    generator = torch.Generator().manual_seed(seed)
    for key in sorted(state):
        value = state[key]
        r = torch.randint(-127, 128, tuple(value.shape), generator=generator, dtype=torch.int32).float()
        if "gaussian_matrix" in key:
            r /= 64
        elif key.endswith("weight_bank_w"):
            r /= 4096
        elif key.endswith("weight_bank_b"):
            r /= 512
        elif key.endswith("bias"):
            r /= 2048
        elif "rel_pos" in key:
            r /= 1024
        elif value.dim() == 1:
            r = 1 + r / 1024
        elif "embed.weight" in key or "embeddings" in key or "token" in key:
            r /= 128
        else:
            r /= 64 * math.sqrt(2.0 ** round(math.log2(value[0].numel())))
        yield key, r


def test_fingerprint_of_the_full_b_model(oracle):
    stored, meta = np.load(oracle / "full_hyperfree_b_512_nomerge_204bands.npz"), None
    meta = json.loads(str(stored["__meta__"]))
    with torch.device("meta"):
        net = HyperFree(published_topology("b", 512))
    net.load_state_dict(dict(fill_sorted(net.state_dict(), meta["seed"])), strict=True, assign=True)
    predictor = HyperFreePredictor(net.eval(), meta["wavelengths"])
    image = stored["input_hwc_uint8"]
    x, size = predictor.prepare(image)
    with torch.inference_mode():
        maps = net.encode(x, meta["wavelengths"], meta["gsd"])
        scale = np.array([size[1] / image.shape[1], size[0] / image.shape[0]])
        points = torch.as_tensor(np.array(meta["points_xy"]) * scale)[:, None]
        logits, iou = net.decode(maps[-1], points_xy=points, labels=torch.ones(len(points), 1))
    for k, ours in enumerate(maps):
        assert list(ours.shape) == stored[f"feat{k}_shape"].tolist()
        c, w = ours.shape[1], ours.shape[-1]
        close(ours[:, :: max(1, c // 16), :: max(1, w // 8), :: max(1, w // 8)], stored[f"feat{k}_sub"])
        close(
            torch.stack([ours.double().mean(), ours.double().std(), ours.double().abs().max()]),
            stored[f"feat{k}_stats"],
        )
    close(iou, stored["iou"])
    # With these random weights the decoder amplifies float32 rounding: feature noise of 1e-6 moves the first
    # prompt's logits
    # by 5e-3, another number of threads by 8e-3. Only the second prompt can be held to 1e-3.
    w = logits.shape[-1]
    ours, recorded = logits[:, :, :: w // 8, :: w // 8], stored["low_res_sub"]
    close(ours[1], recorded[1])
    np.testing.assert_array_equal(ours.numpy() > 0, recorded > 0)  # the masks themselves are equal
    np.testing.assert_allclose(ours[0], recorded[0], atol=5e-2, rtol=0)


def listing(path, variant=None):
    """Key -> shape of a recorded listing, optionally with a variant's differences applied."""
    shapes, applies = {}, True
    for line in path.read_text().splitlines():
        if line.startswith("# ---- variant"):
            applies = variant is not None and line.startswith(f"# ---- variant {variant}:")
        elif line and not line.startswith("#") and applies:
            fields = line.split("\t")
            if fields[0] == "ADDED":
                shapes[fields[1]] = fields[2]
            elif fields[0] == "SHAPE":
                shapes[fields[1]] = fields[4]
            elif fields[0] == "REMOVED":
                del shapes[fields[1]]
            else:
                shapes[fields[0]] = fields[1]
    return shapes


@pytest.mark.parametrize("size", ["b", "l", "h"])
@pytest.mark.parametrize(
    ("variant", "image_size_px", "merging"), [(None, 1024, False), ("readme_512_merge", 512, True)]
)
def test_keys_shapes_and_parameter_counts(oracle, size, variant, image_size_px, merging):
    topology = published_topology(size, image_size_px, merging=merging)
    with torch.device("meta"):
        net = HyperFree(topology)
    ours = {k: str(tuple(v.shape)) for k, v in net.state_dict().items()}
    for family in ("hyperfree", "hypervision"):
        assert ours == listing(oracle / f"keys_{family}_{size}.txt", variant)
    counts = json.loads((oracle / "param_counts.json").read_text())[f"hyperfree_{size}"][variant or "demo_1024_nomerge"]
    assert sum(p.numel() for p in net.parameters()) == counts["total"]
    assert len(ours) == counts["n_keys"]
    assert infer_topology(net.state_dict(), merge_blocks=topology.merge_blocks) == topology


def test_topology_is_equal_after_a_round_trip():
    topology = Topology(
        image_size_px=128, patch_px=16, embed_dim=32, depth=3, num_heads=4, window_px=4, global_blocks=(2,)
    )
    assert infer_topology(HyperFree(topology).state_dict()) == topology
