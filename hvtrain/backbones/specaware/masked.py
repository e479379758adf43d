"""The published autoencoder around a backbone that is trained."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from hvlabel.config import MaskedSettings
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.parts.autoencoder import Autoencoder, Spectra, decoder_around, draws, patch_spectra
from hvtrain.backbones.parts.draws import drawing
from hvtrain.backbones.parts.masking import Reconstruction, normalised
from hvtrain.backbones.parts.patches import patches
from hvtrain.backbones.specaware.backbone import SpecAwareBackbone
from hvtrain.backbones.specaware.encoder import first_weights
from hvtrain.backbones.specaware.mae import MASK_RATIO, SpecAwareMae

PUBLISHED_WIDTH = 768  # of the smallest published encoder, and of all larger ones the decoder is the same
ENCODER = ("cls_token", "patch_embed", "blocks", "norm")


def hyper_mae(backbone: Backbone, settings: MaskedSettings) -> Autoencoder:
    """Tokens are removed, and their pixels come from a last layer that is generated for each band."""
    assert isinstance(backbone, SpecAwareBackbone)
    sizes = backbone.topology
    if sizes.width < PUBLISHED_WIDTH:
        sizes = replace(sizes, decoder_width=sizes.width, decoder_depth=2, decoder_heads=sizes.heads)
    network = SpecAwareMae(sizes)
    first_weights(network)
    heads = decoder_around(network, backbone, ENCODER)
    ratio = settings.mask_ratio or MASK_RATIO

    def reconstruct(cube: Tensor, wavelengths_nm: Sequence[float], gsd_m: Sequence[float], seed: int) -> Reconstruction:
        readable_cube, camera = backbone.seen(cube, wavelengths_nm, gsd_m)
        rows, columns = backbone.grid(cube)
        noise = draws(seed, (len(cube), rows * columns), cube.device)
        with drawing(network, random.Random(seed), cube.device):  # dropout
            return network.reconstruct(readable_cube, camera, mask_ratio=ratio, noise=noise, norm_pix=settings.norm_pix)

    def spectra(cube: Tensor, wavelengths_nm: Sequence[float], gsd_m: Sequence[float], seed: int) -> Spectra:
        reconstruction = reconstruct(cube, wavelengths_nm, gsd_m, seed)
        readable_cube, _ = backbone.seen(cube, wavelengths_nm, gsd_m)
        target = patches(readable_cube, backbone.topology.patch_px)
        if settings.norm_pix:
            target = normalised(target)
        return patch_spectra(target, reconstruction, n_bands=readable_cube.shape[1])

    return Autoencoder(reconstruct, spectra, heads)
