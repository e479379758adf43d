"""SpecAware against recorded output of the published classes, and laws that need no recording."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from hvlabel.config import StudentSettings
from hvlabel.errors import BandError, ConfigError, WeightsError
from hvtrain.backbones import load_backbone
from hvtrain.backbones.parts.masking import normalised
from hvtrain.backbones.parts.patches import patches
from hvtrain.backbones.specaware import PUBLISHED, Camera, Sizes, SpecAwareEncoder, SpecAwareMae, SpecAwareSegmentation
from hvtrain.backbones.specaware.backbone import build, rebuild
from hvtrain.backbones.specaware.camera import spacing_nm
from hvtrain.backbones.specaware.encoder import first_weights
from hvtrain.backbones.specaware.files import resized_rows
from hvtrain.backbones.specaware.metadata import wavelength_code

from .recordings import close, listing, recording, shapes

SMALL = Sizes(
    width=24, depth=3, heads=3, planes=16, rank=4, taps=(0, 2), decoder_width=16, decoder_depth=1, decoder_heads=2
)
NM = torch.linspace(450, 950, 7)


@pytest.fixture(scope="module")
def oracle(shared):
    return shared / "oracle" / "specaware"


@pytest.fixture(scope="module")
def autoencoder(oracle):
    config, weights, _ = recording(oracle / "mae_weights.npz")
    return load_backbone("specaware", weights, config)


def camera_of(config, arrays):
    return Camera(
        arrays["wavelengths_nm"], arrays["fwhm_nm"], arrays["gsd_m"], sensor=config["sensor"], level=config["level"]
    )


@pytest.mark.parametrize("name", ["mae_b25_600_975", "mae_b128_450_950"])
def test_the_autoencoder_gives_the_recorded_output(oracle, autoencoder, name):
    config, _, r = recording(oracle / f"{name}.npz")
    camera, x = camera_of(config, r), r["x"]
    embed = autoencoder.patch_embed
    with torch.no_grad():
        close(wavelength_code(r["wavelengths_nm"], 32), r["fourier"])
        close(embed.spectral_embedding.spectral(camera, len(x)), r["spectral"])
        close(embed.spectral_embedding(camera, len(x)), r["meta"])
        bands = embed.bands(camera, len(x))
        close(bands, r["meta_enhanced"])
        close(embed.content_feature_extractor(x), r["content"])
        condition = embed.condition(x, bands)
        close(condition, r["cond"])
        u, v = embed.matrix_generator.factors(condition)
        step = config["UV_sub_band_step"]
        close(u[:, ::step, ::5], r["U_sub"])
        close(v[:, ::step, ::5], r["V_sub"])
        close(embed.matrix_generator.bias(condition.mean(dim=1)), r["bias"])
        close(autoencoder.tokens(x, camera), r["tokens"])
        close(autoencoder.positions(camera, len(x), (7, 7), 32), r["pos_enc"][:, 1:])
        close(autoencoder.positions(camera, len(x), (7, 7), 48), r["pos_dec"][:, 1:])
        said = autoencoder.reconstruct(x, camera, noise=r["noise"])
        close(said.removed, r["mask"])
        close(said.prediction[:, ::4, ::37], r["pred_sub"])
        close(said.terms["spectral"], r["loss_spectral"])
        close(said.terms["charbonnier"], r["loss_charbonnier_x2"])
        close(said.loss, r["loss"])
        of_mask = autoencoder.reconstruct(x, camera, mask=r["mask"])
        close(of_mask.prediction[:, ::4, ::37], r["pred_sub"])
        normed = autoencoder.reconstruct(x, camera, noise=r["noise"], norm_pix=True)
        close(normed.terms["spectral"], r["loss_spectral_norm_pix"])
        close(normed.terms["charbonnier"], r["loss_charbonnier_x2_norm_pix"])


def test_taps_and_logits_are_the_recorded_ones(oracle):
    config, weights, r = recording(oracle / "encoder_upernet.npz")
    network = load_backbone("specaware", weights, config)
    assert isinstance(network, SpecAwareSegmentation)
    camera, x = camera_of(config, r), r["x"]
    with torch.no_grad():
        mean, largest = network.encoder.patch_embed.content_feature_extractor.thumbnails(x)
        close(mean[:, ::7], r["pool_avg_sub"])
        close(largest[:, ::7], r["pool_max_sub"])
        close(network.tokens(x, camera), r["tokens"])
        taps = network.taps(x, camera)
        for k, tap in enumerate(taps):
            close(tap, r[f"tap{k}"])
        levels = network.neck(taps)
        for k, level in enumerate(levels):
            close(level[:, :, ::5, ::5], r[f"neck{k}_sub"])
        close(network.decoder.psp(levels[-1]), r["psp"])
        close(network.decoder(levels)[:, :, ::5, ::5], r["decoder_out_sub"])
        close(network(x, camera), r["logits"])


@pytest.mark.parametrize("patch_px", [4, 16])
def test_kernels_of_another_patch_are_those_that_the_published_code_makes(oracle, patch_px):
    _, _, r = recording(oracle / "encoder_upernet.npz")
    for part in ("w", "b"):
        close(resized_rows(r[f"vgen_{part}_p8"], patch_px, rank=3), r[f"vgen_{part}_p{patch_px}"])


@pytest.mark.parametrize("size", ["b", "l"])
def test_published_sizes_have_the_published_names_shapes_and_counts(oracle, size):
    with torch.device("meta"):
        network = SpecAwareMae(PUBLISHED[size])
    assert shapes(network) == listing(oracle / f"keys_mae_{size}.txt")
    counts = json.loads((oracle / "param_counts.json").read_text())[f"mae_{size}"]
    assert sum(p.numel() for p in network.parameters()) == counts["total"]


def test_the_published_segmentation_has_the_published_names_shapes_and_count(oracle):
    with torch.device("meta"):
        network = SpecAwareSegmentation(PUBLISHED["b"], n_classes=8)
    assert shapes(network) == listing(oracle / "keys_upernet_b.txt")
    counts = json.loads((oracle / "param_counts.json").read_text())["upernet_b"]
    assert sum(p.numel() for p in network.parameters()) == counts["total"]


# ------------------------------------------------------------------------------------------------ without recordings


def small(kind=SpecAwareMae, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = kind(SMALL)
        first_weights(network)
        for parameter in network.parameters():  # biases too, so that nothing is left out by chance
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def cube_of(n_bands=7, batch=2, seed=0):
    return torch.rand(batch, n_bands, 32, 32, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_one_convolution_per_sample_equals_the_plain_product():
    network, x = small(), cube_of()
    camera = Camera(torch.stack([NM, NM + 20]))
    embed = network.patch_embed
    condition = embed.condition(x, embed.bands(camera, 2))
    u, v = embed.matrix_generator.factors(condition)  # (B, C, E, r), (B, C, r, k * k)
    pixels = patches(x, 8).unflatten(-1, (64, 7))  # (B, N, k * k, C)
    plain = torch.einsum("bcer,bcrp,bnpc->bne", u, v, pixels)
    bias = embed.matrix_generator.bias(condition.mean(dim=1))
    torch.testing.assert_close(network.tokens(x, camera), embed.scaler * (plain + bias[:, None]), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_order_of_the_bands_does_not_matter():
    network, x = small(), cube_of()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    whole = network.taps(x, Camera(NM))
    shuffled = network.taps(x[:, order], Camera(NM[order]))
    for a, b in zip(whole, shuffled, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_mask_and_the_noise_that_makes_it_give_the_same_prediction():
    network, x = small(), cube_of()
    noise = torch.rand(2, 16, generator=torch.Generator().manual_seed(3))
    drawn = network.reconstruct(x, Camera(NM), noise=noise)
    given = network.reconstruct(x, Camera(NM), mask=drawn.removed)
    torch.testing.assert_close(drawn.prediction, given.prediction, atol=1e-5, rtol=1e-4)
    assert torch.equal(drawn.removed, given.removed)
    assert drawn.removed.sum(dim=1).tolist() == [12, 12]


def test_spacing_stands_in_for_missing_widths_in_any_order():
    assert spacing_nm(torch.tensor([[500.0, 510.0, 530.0]])).tolist() == [[10.0, 15.0, 20.0]]
    assert spacing_nm(torch.tensor([[530.0, 500.0, 510.0]])).tolist() == [[20.0, 10.0, 15.0]]
    assert spacing_nm(torch.tensor([[530.0]])).tolist() == [[10.0]]


def test_patches_and_their_normalisation_are_the_plain_ones():
    x = cube_of(n_bands=3, batch=1)
    second = x[0, :, :8, 8:16].permute(1, 2, 0).flatten()  # row, column, band
    assert torch.equal(patches(x, 8)[0, 1], second)
    normed = normalised(patches(x, 8))
    np.testing.assert_allclose(normed[0, 1].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(normed[0, 1].std(), 1, atol=1e-4)


def test_a_network_is_read_back_from_its_own_state_dict():
    network, camera = small(), Camera(NM)
    state = {f"module.encoder.{name}": tensor for name, tensor in network.state_dict().items()}
    again = load_backbone("specaware", state, {"num_heads": 3, "decoder_num_heads": 2, "taps": [0, 2]})
    assert again.topology == SMALL
    with torch.no_grad():
        assert torch.equal(again.tokens(cube_of(), camera), network.tokens(cube_of(), camera))


@torch.no_grad()
def test_one_condition_alone_does_not_see_the_other():
    x, other = cube_of(seed=0), cube_of(seed=1)
    here, there = Camera(NM), Camera(NM + 100)

    def alike(condition, first, second):
        embed = small(lambda sizes: SpecAwareEncoder(replace(sizes, condition=condition))).patch_embed
        kernels = []
        for cube, camera in (first, second):
            bands = embed.bands(camera, 2) if condition != "content" else None
            kernels.append(embed.kernels(embed.condition(cube, bands)))
        return torch.equal(*kernels)

    assert alike("metadata", (x, here), (other, here))
    assert not alike("metadata", (x, here), (x, there))
    assert alike("content", (x, here), (x, there))
    assert not alike("content", (x, here), (other, here))
    assert not alike("both", (x, here), (x, there))
    assert not alike("both", (x, here), (other, here))


@pytest.mark.parametrize("condition", ["both", "metadata", "content"])
def test_a_network_of_either_condition_trains_whole_and_is_rebuilt_from_its_sizes(condition):
    settings = StudentSettings(backbone="specaware", size="small", crop_px=64, specaware={"condition": condition})
    network, cube = build(settings), torch.rand(2, 7, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = network.encode(cube, NM.tolist(), [0.01, 0.01], rng=random.Random(0))
    maps.maps[-1].sum().backward()
    unused = [name for name, parameter in network.patch_embed.named_parameters() if parameter.grad is None]
    assert not unused, "parameters that no loss reaches"
    again = rebuild(json.loads(json.dumps(network.sizes())))
    again.load_state_dict(network.state_dict())
    assert again.topology.condition == condition


@pytest.mark.parametrize("size", ["small", "b"])
@torch.no_grad()
def test_tokens_of_a_network_to_train_are_not_lost_beside_their_positions(size):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(StudentSettings(backbone="specaware", size=size, crop_px=64))
    cube = torch.rand(1, 7, 64, 64, generator=torch.Generator().manual_seed(0))
    readable, camera = network.seen(cube, NM.tolist(), [0.01])
    tokens = network.tokens(readable, camera)
    positions = network.positions(camera, 1, network.grid(cube), tokens.shape[-1])
    size_of = [x.square().mean().sqrt().item() for x in (tokens, positions)]
    assert 0.02 < size_of[0] / size_of[1] < 10  # as published: 1e-7 and 1e-5


def test_refusals():
    network = small()
    with pytest.raises(BandError, match=r"a band at 3000 nm is outside 350-2550 nm"):
        network.tokens(cube_of(2), Camera([500.0, 3000.0]))
    with pytest.raises(ConfigError, match="no sentence is known for 'hyspex'; sensor and level are among avc"):
        network.tokens(cube_of(), Camera(NM, sensor="hyspex"))
    with pytest.raises(BandError, match=r"a mask ratio of 0.99 keeps none of 16 tokens"):
        network.reconstruct(cube_of(), Camera(NM), mask_ratio=0.99)
    with pytest.raises(ConfigError, match="every sample must keep equally many"):
        network.reconstruct(cube_of(), Camera(NM), mask=torch.tensor([[1.0] * 15 + [0.0], [1.0] * 14 + [0.0] * 2]))
    state = network.state_dict()
    with pytest.raises(WeightsError, match="no SpecAware network: it has no cls_token"):
        load_backbone("specaware", {"conv1.weight": torch.zeros(1)})
    del state["decoder_pred.x_attention_pool.key_proj.weight"]
    with pytest.raises(WeightsError, match=r"1 tensors missing, 0 unknown, 0 of another shape, e.g. decoder_pred"):
        load_backbone("specaware", state)
    with pytest.raises(ConfigError, match="no published family 'sam'; there are: specaware"):
        load_backbone("sam", {})


def test_first_weights_are_the_published_ones():
    network = SpecAwareEncoder(SMALL)
    first_weights(network)
    bias_head = network.patch_embed.matrix_generator.bias_generator[3]
    assert not bias_head.weight.any()
    assert network.patch_embed.scaler.item() == pytest.approx(0.02)
    assert network.blocks[0].mlp.fc1.weight.detach().std().item() == pytest.approx(0.02, rel=0.1)
