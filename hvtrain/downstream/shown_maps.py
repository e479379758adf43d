"""What a frozen backbone makes of an image, by what it is shown: maps of cells, or a vector of each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hvlabel.errors import ConfigError
from hvtrain.backbones.hypersl.backbone import RANGE_NM, HyperSlBackbone
from hvtrain.backbones.hypersl.scaling import bands_to_unit
from hvtrain.backbones.parts.bands import readable_of
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.data.inputs import finite, in_range
from hvtrain.downstream.dense_inputs import PIXELS
from hvtrain.downstream.frozen import Frozen


def shown_maps(
    backbone: Frozen, shown: str, values: np.ndarray, wavelengths_nm: Sequence[float], gsd_m: float
) -> FeatureMaps:
    """Maps (1, D, h, w) float32 of a whole image.

    shown  : as in Input
    values : (C, H, W) float32 physical values, as network_values gives them
    BandError where no feature can be made from these bands; ConfigError for vectors of pixels of a backbone of cells.
    """
    if shown == PIXELS:
        return pixel_vectors(backbone, values, wavelengths_nm)
    return backbone.maps(values, wavelengths_nm, gsd_m)


@torch.no_grad()
def pixel_vectors(backbone: Frozen, values: np.ndarray, wavelengths_nm: Sequence[float]) -> FeatureMaps:
    """One map (1, D, H, W) float32, the vector of each pixel's spectrum: the image is neither resized nor pooled.

    Errors as shown_maps.
    """
    network = backbone.network
    if not isinstance(network, HyperSlBackbone):
        raise ConfigError(
            f"input features-pixels: backbone {backbone.name} has no vector of a single spectrum; give one of "
            "pretrain.student.backbone hypersl, or choose input features"
        )
    inside = readable_of(len(values), wavelengths_nm, RANGE_NM)
    in_rows = np.ascontiguousarray(values)
    image = finite(torch.from_numpy(in_rows).float()[None])  # (1, C, H, W)
    # scaled before bands are left out: an image's level is that of all its bands
    scaled = in_range(image.to(backbone.device), network.input_range)
    x = scaled[:, inside]
    if network.band_minmax:
        x = bands_to_unit(x)
    inside_nm = [wavelengths_nm[k] for k in inside]
    vectors = network.maps(x, inside_nm)
    return FeatureMaps((vectors.float().cpu(),), (1.0,))  # a vector per pixel: stride 1
