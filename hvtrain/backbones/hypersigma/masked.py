"""The published autoencoders around a backbone that is trained. Both know full attention and fixed bands alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from torch import Tensor

from hvlabel.config import MaskedSettings
from hvlabel.errors import ConfigError
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.hypersigma.backbone import HyperSigmaBackbone
from hvtrain.backbones.hypersigma.mae import Mae, SpatMae, SpecMae
from hvtrain.backbones.hypersigma.sizes import DecoderSizes, Sizes, first_weights, square_side
from hvtrain.backbones.parts.autoencoder import Autoencoder, Heads, Spectra, decoder_around, draws, patch_spectra
from hvtrain.backbones.parts.draws import drawing
from hvtrain.backbones.parts.masking import Reconstruction, normalised

PUBLISHED_WIDTH = 768  # of the smallest published transformer, and of all larger ones the decoder is the same


def decoder_sizes(encoder: Sizes) -> DecoderSizes:
    """The published decoder, and around a small encoder one of its own width."""
    if encoder.width >= PUBLISHED_WIDTH:
        return DecoderSizes()
    return DecoderSizes(width=encoder.width, depth=2, heads=encoder.heads)


def spatial_mae(backbone: Backbone, settings: MaskedSettings) -> Autoencoder:
    """Patches are removed and predicted from the others; ConfigError for sparse attention or a dictionary."""
    assert isinstance(backbone, HyperSigmaBackbone)
    encoder = backbone.spat_encoder
    _require_full_attention(encoder.topology, "spatial_mae")
    if backbone.dictionary is not None:
        raise ConfigError(
            "pretrain.objective spatial_mae predicts fixed bands; set hypersigma.embedding to resampled, or leave "
            "spatial_mae out"
        )
    decoder = decoder_sizes(encoder.topology)
    network = SpatMae(encoder.topology, decoder, backbone.n_bands, backbone.side_px, backbone.stride_px)
    first_weights(network)
    heads = decoder_around(network, encoder, ("patch_embed", "blocks", "norm"))
    return _autoencoder(backbone, network, settings, heads, _patches_of)


def spectral_mae(backbone: Backbone, settings: MaskedSettings) -> Autoencoder:
    """Groups of bands are removed and predicted from the others; ConfigError without a spectral transformer."""
    assert isinstance(backbone, HyperSigmaBackbone)
    encoder = backbone.spec_encoder
    if encoder is None:
        raise ConfigError(
            "pretrain.objective spectral_mae trains the spectral transformer; set hypersigma.spectral to true, or "
            "choose spatial_mae"
        )
    _require_full_attention(encoder.topology, "spectral_mae")
    if backbone.n_bands % encoder.n_tokens:
        raise ConfigError(
            f"pretrain.objective spectral_mae shares hypersigma.bands equally by {encoder.n_tokens} tokens, and "
            f"{backbone.n_bands} cannot be; choose a multiple of {encoder.n_tokens}"
        )
    decoder = decoder_sizes(encoder.topology)
    network = SpecMae(encoder.topology, decoder, backbone.n_bands, encoder.side_px, encoder.n_tokens)
    first_weights(network)
    heads = decoder_around(network, encoder, ("spat_map", "blocks", "norm"))
    return _autoencoder(backbone, network, settings, heads, _bands_of)


def _require_full_attention(sizes: Sizes, objective: str) -> None:
    """ConfigError for sparse attention, whose offsets need the whole grid that an autoencoder removes tokens from."""
    if sizes.sparse:
        raise ConfigError(
            f"pretrain.objective {objective} removes tokens, which sparse attention cannot do without; set "
            "hypersigma.attention to mhsa: a run with ssa may start from its weights"
        )


def _autoencoder(
    backbone: HyperSigmaBackbone,
    network: Mae,
    settings: MaskedSettings,
    heads: Heads,
    spectra_of: Callable[[Tensor, Reconstruction, Mae], Spectra],
) -> Autoencoder:
    """A network on a camera that is resampled to the fixed bands."""
    del heads["pos_embed"]  # in published files, where it never learns: nothing adds it

    def input_of(cube: Tensor, wavelengths_nm: Sequence[float]) -> Tensor:
        x = backbone.fixed(cube, wavelengths_nm)  # (B, F, S, S)
        return backbone.pooled(x) if isinstance(network, SpecMae) else x

    def reconstruct(cube: Tensor, wavelengths_nm: Sequence[float], gsd_m: Sequence[float], seed: int) -> Reconstruction:
        x = input_of(cube, wavelengths_nm)
        noise = draws(seed, (len(x), network.n_tokens), x.device)
        with drawing(network, random.Random(seed), x.device):  # branches are skipped at random
            return network.reconstruct(x, mask_ratio=settings.mask_ratio, noise=noise, norm_pix=settings.norm_pix)

    def spectra(cube: Tensor, wavelengths_nm: Sequence[float], gsd_m: Sequence[float], seed: int) -> Spectra:
        target = network.targets(input_of(cube, wavelengths_nm))
        if settings.norm_pix:
            target = normalised(target)
        reconstruction = reconstruct(cube, wavelengths_nm, gsd_m, seed)
        return spectra_of(target, reconstruction, network)

    return Autoencoder(reconstruct, spectra, heads)


def _patches_of(target: Tensor, reconstruction: Reconstruction, network: Mae) -> Spectra:
    """Of patches (B, N, k * k * F)."""
    assert isinstance(network, SpatMae)
    n_bands = target.shape[-1] // network.patch_px**2
    return patch_spectra(target, reconstruction, n_bands)


def _bands_of(target: Tensor, reconstruction: Reconstruction, network: Mae) -> Spectra:
    """Of groups of bands (B, T, n * S * S): the middle pixel of each image."""
    assert isinstance(network, SpecMae)
    n_pixels = network.spat_map.in_features
    middle = n_pixels // 2 + square_side(n_pixels) // 2  # row-major: half the rows, then half a row
    of_middle = []
    for groups in (target, reconstruction.prediction):
        of_bands = groups.unflatten(-1, (-1, n_pixels))  # (B, T, n, S * S)
        of_middle.append(of_bands[..., middle].flatten(1))
    spectra, predicted = of_middle  # (B, T * n) each
    bands_per_token = spectra.shape[1] // network.n_tokens
    of_tokens = reconstruction.removed[..., None]
    removed = of_tokens.expand(-1, -1, bands_per_token)  # (B, T, n)
    return Spectra(spectra, predicted, removed.flatten(1) > 0)
