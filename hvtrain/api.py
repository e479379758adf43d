"""A backbone for one's own programs: features of any cube, without a results folder or a configuration.

from hvtrain import Backbone
backbone = Backbone.load("results/pretrain/RUN")
maps = backbone.features(cube, wavelengths_nm)  # cube (H, W, C); maps.last (1, D, h, w), maps.strides_px
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hvlabel.cube import Cube, open_cube
from hvlabel.errors import BandError, CubeError
from hvtrain.backbones import contract
from hvtrain.backbones.whole_image import ImageMaps, maps_of_images
from hvtrain.data.inputs import finite
from hvtrain.downstream.frozen import load_frozen

Image = np.ndarray | Tensor | Cube | Path | str


class Backbone(nn.Module):
    """A backbone of any kind as a plain torch module, frozen until `requires_grad_()` lets its weights learn.

    network : behind hvtrain/backbones/contract.py
    """

    def __init__(self, network: contract.Backbone) -> None:
        super().__init__()
        self.network = network

    @classmethod
    def load(cls, source: Path | str) -> Backbone:
        """The backbone of a run's folder, of an exported or imported file, or of a published HyperFree file; frozen.

        WeightsError for what is neither.
        """
        return cls(load_frozen(str(source)).network).eval()

    @property
    def learns(self) -> bool:
        """Whether some weight takes a gradient."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def train(self, mode: bool = True) -> Backbone:
        """As of any module; a frozen backbone stays as it is inside a model that trains."""
        # who trains a model calls this on all its parts: dropout and norms of a frozen one must not move
        return super().train(mode and self.learns)

    def features(
        self, image: Image, wavelengths_nm: Sequence[float] | np.ndarray | None = None, gsd_m: float = 1.0
    ) -> ImageMaps:
        """Maps of an image or a batch, their strides in px of the image; equal images give equal maps.

        image          : numpy (H, W, C), tensor (B, C, H, W), an open cube, or the path of a .zarr cube, which brings
                         its wavelengths; values of any numeric type, what is no number counts as 0
        wavelengths_nm : (C,) band centres, with an array
        gsd_m          : ground sampling distance, m per px of the image
        No gradient is kept while the backbone is frozen. CubeError for another shape, BandError where the wavelengths
        do not fit the bands, or no feature can be made from them.
        """
        values, bands = _image(image, wavelengths_nm)
        self.network.require_bands(bands)
        device = next(self.parameters()).device
        with nullcontext() if self.learns else torch.no_grad():
            numbers = finite(values.to(device).float())  # (B, C, H, W)
            return maps_of_images(self.network, numbers, bands, gsd_m)

    forward = features


def _image(image: Image, wavelengths_nm: Sequence[float] | np.ndarray | None) -> tuple[Tensor, list[float]]:
    """(B, C, H, W) of any type, and band centres (C,), nm."""
    if isinstance(image, (str, Path)):
        image = open_cube(Path(image))
    if isinstance(image, Cube):
        if wavelengths_nm is not None:
            raise BandError(f"{image.path}: a cube brings its wavelengths; leave them out")
        values = torch.from_numpy(image.live_values())[None]  # (1, L, H, W); a dead band has nothing to tell
        return values, image.live_wavelengths_nm.tolist()
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.dtype.kind not in "buif":
            raise CubeError(f"an array {image.shape} of {image.dtype} is no cube; give numbers of (H, W, C)")
        # torch does not compute with unsigned integers of two bytes, which is what cameras store
        # nor with another machine's byte order, or more than eight bytes
        is_torch = image.dtype in (np.float16, np.float32, np.float64)
        numbers = image if is_torch else image.astype(np.float32)
        channels_first = np.ascontiguousarray(numbers.transpose(2, 0, 1))
        values = torch.from_numpy(channels_first)[None]  # (1, C, H, W)
    elif isinstance(image, Tensor):
        values = image
    else:
        raise CubeError(f"a {type(image).__name__} is no image; give an array, a tensor, a cube or its path")
    if values.ndim != 4 or 0 in values.shape:
        raise CubeError(f"a tensor {tuple(values.shape)} is no batch of cubes; give (B, C, H, W), none of them 0")
    n_bands = values.shape[1]
    if wavelengths_nm is None:
        raise BandError(f"an image of {n_bands} bands without wavelengths; give wavelengths_nm, one centre per band")
    try:
        bands = [float(nm) for nm in wavelengths_nm]
    except (TypeError, ValueError) as error:
        raise BandError("wavelengths_nm: expected a list of band centres in nm") from error
    if len(bands) != n_bands or not np.isfinite(bands).all():
        raise BandError(f"{len(bands)} wavelengths for {n_bands} bands; give one centre in nm per band")
    return values, bands
