"""HyperSIGMA against recorded output of the published classes, and laws that need no recording."""

import json

import pytest
import torch

from hvlabel.errors import ConfigError, WeightsError
from hvtrain.backbones import load_backbone
from hvtrain.backbones.hypersigma import (
    DecoderSizes,
    PatchClassification,
    Segmentation,
    Sizes,
    SparseAttention,
    SpatMae,
    SpatVit,
    SpecMae,
    SpecVit,
)
from hvtrain.backbones.hypersigma.attention import sampled
from hvtrain.backbones.hypersigma.positions import as_published, for_grid, spectral_as_published
from hvtrain.backbones.hypersigma.sizes import first_weights, published, sparse_blocks
from hvtrain.backbones.parts.transformer import Attention

from .random_networks import cube_of, drawn
from .recordings import close, listing, recording, shapes

SIZES = ["b", "l", "h"]
SMALL = Sizes(width=16, depth=4, heads=2, sparse=sparse_blocks(4, 2), points=3, taps=(0, 1, 2, 3))


@pytest.fixture(scope="module")
def oracle(shared):
    return shared / "oracle" / "hypersigma"


def loaded(oracle, name):
    config, weights, r = recording(oracle / f"{name}.npz")
    return load_backbone("hypersigma", weights, config), config, r


@torch.no_grad()
def test_sparse_attention_gives_the_recorded_output(oracle):
    layer, config, r = loaded(oracle, "ssa_layer")
    assert isinstance(layer, SparseAttention)
    grid = tuple(config["grid_hw"])
    q, k, v = layer.split(r["x"])
    places = layer.places(q, grid).flatten(0, 1)
    close(places, r["sample_grid"])
    close(sampled(k, places, grid).flatten(0, 1).permute(0, 3, 1, 2), r["sampled_k"])
    close(sampled(v, places, grid).flatten(0, 1).permute(0, 3, 1, 2), r["sampled_v"])
    close(layer(r["x"], grid), r["y"])


@torch.no_grad()
def test_full_attention_gives_the_recorded_output(oracle):
    layer, _, r = loaded(oracle, "mhsa_layer")
    close(layer(r["x"]), r["y"])


@torch.no_grad()
@pytest.mark.parametrize("name", ["spatvit_64x64_p8", "spatvit_48x80_p8"])
def test_the_spatial_transformer_gives_the_recorded_maps(oracle, name):
    network, config, r = loaded(oracle, name)
    close(network.tokens(r["x"]), r["tokens_plus_pos"])
    for i, tokens in enumerate(network.hidden(r["x"])):
        close(tokens, r[f"block{i}"])
    for k, tap in enumerate(network.taps(r["x"]), start=1):
        close(tap, r[f"fpn{k}"])
    step = config["returned_step"]
    for k, tap in enumerate(network.maps(r["x"]), start=1):
        close(tap[:, :, ::step, ::step], r[f"returned{k}_sub"])


@torch.no_grad()
@pytest.mark.parametrize("name", ["specvit_T25_C31", "specvit_T16_C10"])
def test_the_spectral_transformer_gives_the_recorded_tokens(oracle, name):
    network, _, r = loaded(oracle, name)
    close(network.pooled(r["x"]), r["pooled"])
    close(network.mapped(r["x"]), r["spat_map_out"])
    close(network.tokens(r["x"]), r["tokens_plus_pos"])
    for i, tokens in enumerate(network.hidden(r["x"])):
        close(tokens, r[f"block{i}"])
    for j, tap in enumerate(network.taps(r["x"])):
        close(tap, r[f"returned{j}"])


@torch.no_grad()
@pytest.mark.parametrize("name", ["seg_fusion_64x64_p8", "cls_fusion_9x9_p2"])
def test_the_heads_give_the_recorded_output(oracle, name):
    network, config, r = loaded(oracle, name)
    step = config["step"]
    summary = network.spec_encoder.taps(r["x"])[0]
    close(summary, r["l1_out"])
    for k, shares in enumerate(network.gates(r["x"]), start=1):
        close(shares, r[f"gate{k}"])
    for k, reduced in enumerate(network.reduced(r["x"]), start=1):
        close(reduced[:, :, ::step, ::step], r[f"DR{k}_out_sub"])
    fused = network.fused(r["x"])
    close(fused if fused.ndim == 2 else fused[:, :, ::step, ::step], r["fused" if fused.ndim == 2 else "fused_sub"])
    close(network(r["x"]), r["y"])


@torch.no_grad()
@pytest.mark.parametrize("name", ["spatmae_64x64", "specmae_T16_zero_dec_pos", "specmae_T9_C18"])
def test_the_autoencoders_give_the_recorded_output(oracle, name):
    network, _, r = loaded(oracle, name)
    if "decoder_pos_embed" in r:
        close(network.decoder_pos_embed, r["decoder_pos_embed"])
    close(network.targets(r["x"]), r["target"])
    said = network.reconstruct(r["x"], noise=r["noise"])
    close(said.removed, r["mask"])
    close(said.prediction, r["pred"])
    close(said.loss, r["loss_plain"])
    given = network.reconstruct(r["x"], mask=r["mask"], norm_pix=True)
    close(given.prediction, r["pred"])
    close(given.loss, r["loss_norm_pix"])


def test_tables_of_positions_are_fitted_as_the_published_loader_does(oracle):
    _, _, r = recording(oracle / "pos_embed_on_load.npz")
    for case, grid in (("8x8_to_6x10", (6, 10)), ("8x8_to_16x16", (16, 16)), ("8x8_to_4x16_same_count", (4, 16))):
        close(as_published(r[f"spat_{case}_in"], grid), r[f"spat_{case}_out"])
    close(spectral_as_published(r["spec_100_to_100_in"], 100), r["spec_100_to_100_out"])


def published_network(kind, size):
    decoder, full = DecoderSizes(), published(size, sparse=False)
    with torch.device("meta"):
        return {
            "spatvit": lambda: SpatVit(published(size), 100, (8, 8), n_classes=10),
            "specvit": lambda: SpecVit(published(size, spectral=True), 64, unused=True),
            "spatmae": lambda: SpatMae(full, decoder, 100, 64),
            "specmae": lambda: SpecMae(full, decoder, 100, 64),
        }[kind]()


def agrees(network, oracle, name):
    counts = json.loads((oracle / "param_counts.json").read_text())[name]
    assert len(shapes(network)) == counts["n_keys"]
    assert sum(p.numel() for p in network.parameters()) == counts["total"]
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == counts["trainable"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["spatvit", "specvit", "spatmae", "specmae"])
def test_published_sizes_have_the_published_names_shapes_and_counts(oracle, kind, size):
    network = published_network(kind, size)
    assert shapes(network) == listing(oracle / f"keys_{kind}_{size}.txt")
    agrees(network, oracle, f"{kind}_{size}")


def test_published_heads_have_the_published_names_shapes_and_counts(oracle):
    sizes = published("b")
    in_patches = Sizes(sparse=sizes.sparse, taps=(3, 5, 7, 11))
    with torch.device("meta"):
        of_pixels = Segmentation(
            SpatVit(sizes, 100, (8, 8), n_classes=10),
            SpecVit(published("b", spectral=True), 64, unused=True),
            10,
            unused=True,
        )
        of_patches = PatchClassification(
            SpatVit(sizes, 10, (4, 4), 2, patch_file=True, n_classes=17),
            SpecVit(in_patches, 9, unused=True),
            17,
            unused=True,
        )
    for name, network in (("seg_fusion_b", of_pixels), ("cls_fusion_b", of_patches)):
        recorded = listing(oracle / f"keys_{name}.txt")
        own = {key: shape for key, shape in shapes(network).items() if ".blocks." not in key}
        assert own == recorded
        agrees(network, oracle, name)


# ------------------------------------------------------------------------------------------------ without recordings


@torch.no_grad()
def test_sparse_attention_equals_the_plain_loop_over_points():
    layer, grid = drawn(SparseAttention(8, 2, 3)), (3, 4)
    x = torch.randn(1, 12, 8, generator=torch.Generator().manual_seed(1))
    q, k, v = layer.split(x)
    offsets = layer.sampling_offsets(q.transpose(1, 2).flatten(2)).reshape(12, 2, 3, 2)
    out = torch.zeros(1, 2, 12, 4)
    for head in range(2):
        for n in range(12):
            logits, values = [], []
            for p in range(3):
                column, row = n % 4 + offsets[n, head, p, 0], n // 4 + offsets[n, head, p, 1]
                key, value = torch.zeros(4), torch.zeros(4)
                for i in range(3):
                    for j in range(4):
                        share = (1 - (row - i).abs()).clamp(min=0) * (1 - (column - j).abs()).clamp(min=0)
                        key += share * k[0, head, 4 * i + j]
                        value += share * v[0, head, 4 * i + j]
                logits.append(q[0, head, n] @ key / 2)
                values.append(value)
            shares = torch.stack(logits).softmax(dim=0)
            out[0, head, n] = (shares[:, None] * torch.stack(values)).sum(dim=0)
    torch.testing.assert_close(layer(x, grid), layer.merged(out), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_both_attentions_read_the_same_weights():
    sparse = drawn(SparseAttention(8, 2, 3))
    full = load_backbone("hypersigma", sparse.state_dict(), {"heads": 2, "attention": "mhsa"})
    assert type(full) is Attention
    assert torch.equal(full.qkv.weight, sparse.qkv.weight)


def test_a_table_for_its_own_grid_is_itself_and_a_flat_one_stays_flat():
    table = torch.randn(1, 12, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(for_grid(table, (3, 4), (3, 4)), table)
    flat = torch.ones(1, 12, 5)
    torch.testing.assert_close(for_grid(flat, (3, 4), (7, 2)), torch.ones(1, 14, 5))


@torch.no_grad()
def test_any_size_of_image_gives_maps():
    network = drawn(SpatVit(SMALL, 6, (4, 4)))
    assert [tuple(tap.shape[2:]) for tap in network.taps(torch.rand(1, 6, 40, 72))] == [(5, 9), (5, 9), (2, 4), (1, 2)]
    with pytest.raises(ConfigError, match="3 x 9 tokens are too few for a pyramid"):
        network.taps(torch.rand(1, 6, 24, 72))


@torch.no_grad()
def test_without_decoder_positions_all_removed_groups_get_one_prediction():
    network = drawn(SpecMae(Sizes(16, 2, 2), DecoderSizes(8, 2, 2), n_bands=9, side_px=32, n_tokens=9))
    said = network.reconstruct(cube_of(9))
    removed = said.prediction[0][said.removed[0] == 1]
    assert len(removed) == 7
    torch.testing.assert_close(removed, removed[:1].expand_as(removed), atol=1e-6, rtol=1e-5)


def test_first_weights_are_the_published_ones():
    network = SpatVit(SMALL, 6, (4, 4))
    first_weights(network)
    spreads = [block.mlp.fc1.weight.detach().std().item() for block in network.blocks]
    last = [block.mlp.fc2.weight.detach().std().item() for block in network.blocks]
    assert spreads == pytest.approx([0.02] * 4, rel=0.15)
    assert last == pytest.approx([0.02 / (2 * (i + 1)) ** 0.5 for i in range(4)], rel=0.15)
    assert not network.blocks[0].attn.sampling_offsets.bias.any()


def test_refusals():
    with pytest.raises(ConfigError, match="HyperSIGMA has no patches of 5 px; choose 1, 2, 4, 8 or 16"):
        SpatVit(SMALL, 6, (4, 4), 5)
    with pytest.raises(ConfigError, match="10 bands cannot be shared by 9 tokens"):
        SpecMae(Sizes(16, 2, 2), DecoderSizes(8, 2, 2), n_bands=10, side_px=32, n_tokens=9)
    with pytest.raises(ConfigError, match="12 spectral tokens are no square"):
        SpecVit(SMALL, 32, 12).taps(cube_of())
    with pytest.raises(ConfigError, match=r"an image of 32 x 32 px; the spectral transformer reads 16 x 16 px"):
        SpecVit(SMALL, 16, 9).taps(cube_of())
    state = drawn(SpatVit(SMALL, 6, (4, 4))).state_dict()
    with pytest.raises(WeightsError, match=r"no HyperSIGMA network: it has no patch_embed.proj.weight"):
        load_backbone("hypersigma", {"conv1.weight": torch.zeros(1)})
    del state["blocks.3.mlp.fc2.bias"]
    with pytest.raises(WeightsError, match=r"1 tensors missing, 0 unknown, 0 of another shape, e.g. blocks.3.mlp"):
        load_backbone("hypersigma", state, {"heads": 2})
