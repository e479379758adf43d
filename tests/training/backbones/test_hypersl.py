"""HyperSL against recorded output of the published code, and laws that need no recording."""

import json

import numpy as np
import pytest
import torch

from hvlabel.config import StudentSettings
from hvlabel.errors import BandError, ConfigError, WeightsError
from hvtrain.backbones import load_backbone
from hvtrain.backbones.hypersl import PUBLISHED, HyperSl, HyperSlEncoder, Sizes, encoder
from hvtrain.backbones.hypersl.layers import first_weights
from hvtrain.backbones.hypersl.scaling import bands_to_unit, scene_spectra
from hvtrain.backbones.parts.masking import masking
from hvtrain.student import make_student

from .recordings import close, listing, recording, shapes

SMALL = Sizes(width=16, depth=3, decoder_depth=2, heads=2, table_bands=40)
NM = torch.linspace(420, 980, 9)
CASES = [
    "w16_b128even_m95",
    "w16_b128uneven_m00",
    "w16_b25even_m95",
    "w16_b25uneven_m75",
    "w32_b128uneven_m95",
    "w32_b25even_m50",
    "w32_b25shuffled_m30",
    "w32_b25uneven_m95",
]


@pytest.fixture(scope="module")
def oracle(shared):
    return shared / "oracle" / "hypersl"


def loaded(oracle, topology):
    config, _, state = recording(oracle / f"hypersl_{topology}_weights.npz")
    return load_backbone("hypersl", state, config)


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_the_autoencoder_gives_the_recorded_output(oracle, name):
    meta, _, r = recording(oracle / f"hypersl_{name}.npz")
    network, x, wave = loaded(oracle, meta["topology"]), r["x"], r["wave"]
    spectra, ratio = x[:, 0], meta["mask_ratio"]
    tokens = network.tokens(spectra)
    close(tokens.transpose(1, 2), r["tok_out"])
    if "tok_branch1" in r:
        for k, branch in enumerate(network.branches(spectra), start=1):
            close(branch, r[f"tok_branch{k}"])
    close(network.positions(wave)[:1], r["pos"])
    choice = masking(x.shape[-1], len(x), mask_ratio=ratio, noise=r["noise"])
    assert choice.n_kept == int(r["len_keep"])
    assert torch.equal(choice.order, r["ids_shuffle"].long())
    positions = network.positions(wave)
    z, k, v = network.encoded(tokens + positions, choice)
    close(k, r["enc_last_k"][:, :, 1:])
    close(v, r["enc_last_v"][:, :, 1:])
    close(network.corss_attn(z, k, v), r["deagg"])
    close(z, r["z"])
    said = network.reconstruct(x, wave, mask_ratio=ratio, noise=r["noise"])
    close(said.prediction, r["recon"])
    close(said.removed, r["mask"])
    close(said.terms["squared_error"], r["mse"])
    close(said.terms["cosine"], r["cos_term"])
    close(said.loss, r["loss"])
    close(network.masked_features(x, wave, mask_ratio=ratio, noise=r["noise"]), r["z"])
    given = network.reconstruct(x, wave, mask=r["mask"])
    close(given.prediction, r["recon"])
    close(network.features(x, wave), r["nomask_z"])
    close(network.reconstruct(x, wave, mask_ratio=0, noise=r["noise"]).prediction, r["nomask_recon"])


@torch.no_grad()
def test_images_with_bands_of_their_own_give_the_recorded_vectors(oracle):
    _, _, r = recording(oracle / "hypersl_w16_map.npz")
    network = loaded(oracle, "w16")
    close(network.positions(r["wave"]), r["pos_first"])
    close(network.features(r["x"], r["wave"]), r["z"])
    close(network.reconstruct(r["x"], r["wave"], mask_ratio=0, noise=r["noise"]).prediction, r["recon"])


def test_a_training_step_gives_the_recorded_gradients_and_statistics(oracle):
    meta, _, r = recording(oracle / "hypersl_w32_trainstep.npz")
    network = loaded(oracle, "w32").train()
    losses = []
    for source in ("a", "b"):
        said = network.reconstruct(
            r[f"x_{source}"], r[f"wave_{source}"], mask_ratio=meta["mask_ratio"], noise=r[f"noise_{source}"]
        )
        close(said.prediction, r[f"recon_{source}"])
        close(said.loss, r[f"loss_{source}"])
        losses.append(said.loss)
    sum(losses).backward()
    close(sum(losses), r["total_loss"])
    parameters, state = dict(network.named_parameters()), network.state_dict()
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    close(torch.stack([g.square().sum() for g in gradients]).sum().sqrt(), r["grad_total_norm"])
    assert [name for name, p in parameters.items() if p.grad is None] == json.loads(str(r["params_without_grad"]))
    for name, value in r.items():
        if name.startswith("grad/"):
            close(parameters[name.removeprefix("grad/")].grad, value)
        if name.startswith("after/"):
            close(state[name.removeprefix("after/")], value)


def test_scenes_are_scaled_as_recorded(oracle):
    _, _, r = recording(oracle / "hypersl_scene_scaling.npz")
    spectra, whole = scene_spectra(r["dn"].numpy(), -32768)
    np.testing.assert_array_equal(whole, r["valid"].numpy())
    np.testing.assert_allclose(spectra, r["spectra"].numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", ["small", "base"])
def test_published_sizes_have_the_published_names_and_shapes(oracle, size):
    with torch.device("meta"):
        network = HyperSl(PUBLISHED[size])
    assert shapes(network) == listing(oracle / f"keys_hypersl_{size}.txt")


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_have_the_published_counts(oracle, size):
    with torch.device("meta"):
        network, encoder = HyperSl(PUBLISHED[size]), HyperSlEncoder(PUBLISHED[size])
    counts = json.loads((oracle / "param_counts.json").read_text())[size]
    assert sum(p.numel() for p in network.parameters()) == counts["total_parameters"]
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == counts["trainable"]
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == counts["encoder"]


# ------------------------------------------------------------------------------------------------ without recordings


def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = HyperSl(SMALL)
        first_weights(network)
    return network.eval()


def cube_of(side=8, seed=0):
    return torch.rand(2, 9, side, side, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("chunk_pixels", [1, 7, 128])
def test_chunks_equal_the_whole(chunk_pixels):
    network, x = small(), cube_of()
    whole = network.features(x.permute(0, 2, 3, 1), NM)[:, 0]  # (B * H * W, D), row by row
    network.chunk_pixels = chunk_pixels
    torch.testing.assert_close(network.features(x.permute(0, 2, 3, 1), NM)[:, 0], whole, atol=1e-5, rtol=1e-4)
    own = torch.stack([NM, NM + 5])  # bands of each sample's own
    apart = [network.features(x[k : k + 1].permute(0, 2, 3, 1), own[k]) for k in (0, 1)]
    torch.testing.assert_close(network.features(x.permute(0, 2, 3, 1), own), torch.cat(apart), atol=1e-5, rtol=1e-4)
    maps = network.maps(x, NM)
    assert maps.shape == (2, 16, 8, 8)
    torch.testing.assert_close(maps.permute(0, 2, 3, 1).flatten(0, 2), whole, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_chunk_holds_fewer_spectra_of_many_bands(monkeypatch):
    network, x = small(), cube_of()
    whole = network.maps(x, NM)
    sizes = []
    network.encoder_blocks[0].register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    monkeypatch.setattr(encoder, "CHUNK_TOKENS", 30 * x.shape[1])
    torch.testing.assert_close(network.maps(x, NM), whole, atol=1e-5, rtol=1e-4)
    assert sizes == [30, 30, 30, 30, 8]
    monkeypatch.setattr(encoder, "CHUNK_TOKENS", x.shape[1] - 1)  # less than one spectrum has
    network.maps(x[:1, :, :2, :2], NM)
    assert sizes[5:] == [1, 1, 1, 1]


@torch.no_grad()
def test_a_stride_leaves_pixels_out_and_changes_no_other():
    network, x = small(), cube_of(9)
    torch.testing.assert_close(
        network.maps(x, NM, pixel_stride=4), network.maps(x, NM)[:, :, ::4, ::4], atol=1e-6, rtol=1e-5
    )


@torch.no_grad()
def test_the_order_of_the_bands_does_not_matter_to_maps():
    network, x = small(), cube_of()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(network.maps(x[:, order], NM[order]), network.maps(x, NM))


def test_in_training_maps_keep_to_the_statistics_and_the_autoencoder_learns_them():
    network, x = small(), cube_of()
    still = network.maps(x, NM)
    network.train()
    before = network.embedding_layer_1[1].running_mean.clone()
    torch.testing.assert_close(network.maps(x, NM), still)
    assert torch.equal(network.embedding_layer_1[1].running_mean, before)
    network.reconstruct(x.permute(0, 2, 3, 1), NM, mask_ratio=0.5)
    assert not torch.equal(network.embedding_layer_1[1].running_mean, before)


def test_a_ratio_that_keeps_no_band_is_refused():
    x = torch.rand(2, 15)
    with pytest.raises(BandError, match=r"a mask ratio of 0.95 keeps none of 15 bands.*at most 0.93"):
        small().reconstruct(x, np.linspace(465, 625, 15).tolist())
    small().reconstruct(x, np.linspace(465, 625, 15).tolist(), mask_ratio=0.93)


def test_refusals():
    network = small()
    with pytest.raises(BandError, match="9 wavelengths for 8 bands"):
        network.features(torch.rand(2, 8), NM)
    with pytest.raises(BandError, match="3 lists of wavelengths for 2 samples; give one, or one for each"):
        network.features(torch.rand(2, 9), torch.stack([NM] * 3))
    with pytest.raises(WeightsError, match="no HyperSL network: it has no global_token"):
        load_backbone("hypersl", {"conv1.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="a width of 16 cannot be shared by 3 heads"):
        load_backbone("hypersl", network.state_dict(), {"num_heads": 3})
    state = network.state_dict()
    del state["corss_attn.qkv.bias"]
    with pytest.raises(WeightsError, match=r"1 tensors missing, 0 unknown, 0 of another shape, e.g. corss_attn"):
        load_backbone("hypersl", state, {"num_heads": 2})
    with pytest.raises(ConfigError, match="width 62 must be even and a multiple of its 4 heads"):
        make_student(StudentSettings(backbone="hypersl", size="small", crop_px=64, hypersl={"width": 62}), 0)


@torch.no_grad()
def test_the_decoder_is_optional_and_heads_come_from_the_width():
    state = HyperSlEncoder(Sizes(width=256, depth=2, table_bands=3)).state_dict()
    encoder = load_backbone("hypersl", {f"module.{name}": tensor for name, tensor in state.items()})
    assert type(encoder) is HyperSlEncoder
    assert encoder.topology.heads == 8


def test_bands_are_stretched_by_themselves():
    x = cube_of()
    x[0, 3] = 0.25
    stretched = bands_to_unit(x)
    assert stretched.amin(dim=(2, 3)).eq(0).all()
    assert stretched.amax(dim=(2, 3)).eq(1).sum() == 17
    assert not stretched[0, 3].any()
