"""HyperSL behind the contract of all backbones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from hvlabel.config import StudentSettings
from hvlabel.errors import ConfigError
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.hypersl.encoder import HyperSlEncoder
from hvtrain.backbones.hypersl.files import TABLE, encoder_part
from hvtrain.backbones.hypersl.layers import first_weights
from hvtrain.backbones.hypersl.scaling import bands_to_unit
from hvtrain.backbones.hypersl.sizes import PUBLISHED, Sizes, sizes_of
from hvtrain.backbones.parts.bands import readable, readable_of
from hvtrain.backbones.parts.states import filled, only
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.data.inputs import InputRange

RANGE_NM = (350.0, 2600.0)  # around the 400-2450 nm of EnMAP and DESIS, which it was pre-trained on
SMALL = Sizes(width=64, depth=3, decoder_depth=2, heads=4)
# the sizes of the other backbones -> names in the published code
OF_SIZE = {"b": PUBLISHED["small"], "l": PUBLISHED["base"], "h": PUBLISHED["large"]}
STRIDE_PX = 4


class HyperSlBackbone(HyperSlEncoder, Backbone):
    """The published encoder on the mean spectra of cells; its state dict is the published layout.

    stride_px   : side of a cell
    band_minmax : stretch each band of each image to [0, 1], as in pre-training, which takes absolute values away
    """

    name: ClassVar[str] = "hypersl"
    input_range: ClassVar[InputRange] = "unit_max"

    def __init__(self, sizes: Sizes, side_px: int, *, stride_px: int = STRIDE_PX, band_minmax: bool = False) -> None:
        super().__init__(sizes)
        self.dim, self.side_px, self.stride_px = sizes.width, side_px, stride_px
        self.band_minmax = band_minmax

    def encode(
        self,
        cube: Tensor,
        wavelengths_nm: Sequence[float],
        gsd_m: Sequence[float],
        *,
        rng: random.Random | None = None,
    ) -> FeatureMaps:
        """As the contract says; nothing is drawn. Bands outside 350-2600 nm are left out."""
        cells, centres_nm = self._cells(cube, wavelengths_nm)
        maps = self.maps(cells, centres_nm)  # (B, D, h, w)
        return FeatureMaps.of([maps], cube.shape[-1])

    def spectra(self, cube: Tensor, wavelengths_nm: Sequence[float]) -> tuple[Tensor, list[float]]:
        """(B, cells, L) mean spectra of the cells of (B, C, S, S), and the readable band centres, nm, which rise."""
        cells, centres_nm = self._cells(cube, wavelengths_nm)
        order = sorted(range(len(centres_nm)), key=centres_nm.__getitem__)
        rising = cells[:, order]  # (B, L, h, w); kernels along the bands count on it
        spectra = rising.flatten(2).transpose(1, 2)
        return spectra, [centres_nm[k] for k in order]

    def _cells(self, cube: Tensor, wavelengths_nm: Sequence[float]) -> tuple[Tensor, list[float]]:
        """(B, L, h, w) means of cells in the readable bands, and the bands' centres, nm."""
        inside = readable_of(cube.shape[1], wavelengths_nm, RANGE_NM)
        x = cube[:, inside]
        if self.band_minmax:
            x = bands_to_unit(x)
        # means, not every stride_px-th pixel: noise goes down, and small objects are not stepped over
        cells = F.avg_pool2d(x, self.stride_px)
        return cells, [wavelengths_nm[k] for k in inside]

    def require_bands(self, wavelengths_nm: Sequence[float]) -> None:
        """BandError if no band lies near those of pre-training."""
        require_bands(wavelengths_nm)

    def sizes(self) -> dict[str, Any]:
        """Of the encoder, the side of its input, and what it eats."""
        return {
            **asdict(self.topology),
            "side_px": self.side_px,
            "stride_px": self.stride_px,
            "band_minmax": self.band_minmax,
        }

    def save_memory(self) -> None:
        """Recompute each chunk of spectra in the backward pass."""
        self.recompute = True

    def compile_blocks(self) -> None:
        """Compile the transformer's blocks, which are alike."""
        for block in self.encoder_blocks:
            block.compile()


def build(settings: StudentSettings) -> HyperSlBackbone:
    """The network of the settings with its first weights, drawn from torch's generator.

    ConfigError for a width that its heads cannot share.
    """
    own = settings.hypersl
    sizes = SMALL if settings.size == "small" else OF_SIZE[settings.size]
    sizes = replace(
        sizes,
        width=own.width or sizes.width,
        depth=own.depth or sizes.depth,
        heads=own.heads or sizes.heads,
    )
    if sizes.width % sizes.heads or sizes.width % 2:
        raise ConfigError(
            f"pretrain.student.hypersl.width {sizes.width} must be even and a multiple of its {sizes.heads} heads"
        )
    network = HyperSlBackbone(sizes, settings.crop_px, stride_px=own.stride_px, band_minmax=own.band_minmax)
    network.chunk_pixels = own.chunk_pixels
    first_weights(network)
    return network


def rebuild(sizes: dict[str, Any]) -> HyperSlBackbone:
    """The network of recorded sizes."""
    own = Sizes.__dataclass_fields__
    of_encoder = {name: value for name, value in sizes.items() if name in own}
    others = {name: value for name, value in sizes.items() if name not in own}
    return HyperSlBackbone(Sizes(**of_encoder), **others)


def adopt(parts: Sequence[Mapping[str, Tensor]], config: Mapping[str, Any], source: str) -> HyperSlBackbone:
    """The network of a published file, its decoder left out; WeightsError for another network's file."""
    state = only(parts, source, "HyperSL")
    side_px = int(config.get("img_size", 224))  # no shape tells it: the network knows no space
    network = HyperSlBackbone(sizes_of(state, config, source), side_px)
    return filled(network, encoder_part(state), source, unused=(TABLE,))


def require_bands(wavelengths_nm: Sequence[float]) -> None:
    """BandError if no band (C,), nm, lies near those of pre-training."""
    readable(wavelengths_nm, RANGE_NM)
