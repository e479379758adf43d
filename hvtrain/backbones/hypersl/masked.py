"""The published autoencoder around a backbone that is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hvlabel.config import MaskedSettings
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.hypersl.backbone import RANGE_NM, HyperSlBackbone
from hvtrain.backbones.hypersl.layers import first_weights
from hvtrain.backbones.hypersl.mae import MASK_RATIO, HyperSl
from hvtrain.backbones.parts.autoencoder import Autoencoder, Spectra, decoder_around, draws
from hvtrain.backbones.parts.bands import readable
from hvtrain.backbones.parts.masking import Reconstruction, masking

ENCODER = (
    "global_token",
    "div_term",
    "pe",
    "embedding_layer_1",
    "embedding_layer_2",
    "embedding_layer_3",
    "embedding_layer_4",
    "encoder_blocks",
    "transformer_encoder_layer",
)


def spectral_mae(backbone: Backbone, settings: MaskedSettings) -> Autoencoder:
    """Of some mean spectra of each image, drawn anew in each step, most bands are removed.

    BandError where a camera has so few bands that none would be kept.
    """
    assert isinstance(backbone, HyperSlBackbone)
    network = HyperSl(backbone.topology)
    first_weights(network)
    heads = decoder_around(network, backbone, ENCODER)
    ratio = settings.mask_ratio or MASK_RATIO

    def drawn(cube: Tensor, wavelengths_nm: Sequence[float], seed: int) -> tuple[Tensor, Reconstruction]:
        spectra, centres_nm = backbone.spectra(cube, wavelengths_nm)  # (B, cells, L), rising bands
        n_bands = spectra.shape[-1]
        shuffled = draws(seed, spectra.shape[:2], cube.device).argsort(dim=1)  # (B, cells)
        some = shuffled[:, : settings.spectra, None]
        cells = some.expand(-1, -1, n_bands)  # (B, S, L)
        x = spectra.gather(1, cells).flatten(0, 1)  # (B * S, L)
        # another seed: the same numbers would tie the choice of bands to that of cells
        noise = draws(seed + 1, (len(x), n_bands), cube.device)
        reconstruction = network.reconstruct(x, centres_nm, mask_ratio=ratio, noise=noise)
        return x, reconstruction

    def reconstruct(cube: Tensor, wavelengths_nm: Sequence[float], gsd_m: Sequence[float], seed: int) -> Reconstruction:
        return drawn(cube, wavelengths_nm, seed)[1]

    def spectra_of(cube: Tensor, wavelengths_nm: Sequence[float], gsd_m: Sequence[float], seed: int) -> Spectra:
        x, reconstruction = drawn(cube, wavelengths_nm, seed)
        per_image = len(x) // len(cube)
        numbers = torch.arange(len(x), device=x.device)
        first_idx = numbers[::per_image]  # one of each image
        predicted = reconstruction.prediction[first_idx, 0]
        removed = reconstruction.removed[first_idx] > 0
        return Spectra(x[first_idx], predicted, removed)

    def require_bands(wavelengths_nm: Sequence[float]) -> None:
        n_bands = len(readable(wavelengths_nm, RANGE_NM))
        masking(n_bands, 1, mask_ratio=ratio, what="bands")

    return Autoencoder(reconstruct, spectra_of, heads, require_bands)
