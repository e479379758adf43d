"""SpecAware behind the contract of all backbones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from hvlabel.config import StudentSettings
from hvlabel.errors import ConfigError
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.parts.bands import readable, readable_of
from hvtrain.backbones.parts.draws import drawing
from hvtrain.backbones.parts.states import filled, only
from hvtrain.backbones.specaware.camera import NOMINAL_GSD_M, RANGE_NM, Camera
from hvtrain.backbones.specaware.encoder import SpecAwareEncoder, first_weights
from hvtrain.backbones.specaware.files import encoder_part, resized_patches
from hvtrain.backbones.specaware.sentences import SENTENCES, SHIPPED, read_sentences
from hvtrain.backbones.specaware.sizes import PUBLISHED, Sizes, quarters, sizes_of
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.data.inputs import InputRange

SMALL = Sizes(width=96, depth=4, heads=4, planes=32, rank=8, taps=quarters(4))
SENTENCE_TABLE = "sentences"


class SpecAwareBackbone(SpecAwareEncoder, Backbone):
    """The published encoder; its state dict is the published layout, and the sentence vectors.

    sensor, level : names of sentences that all images get
    nominal_gsd_m : ground sampling distance that all images are said to have, m per px; none: their own
    """

    name: ClassVar[str] = "specaware"
    input_range: ClassVar[InputRange] = "unit_max"
    sentences: Tensor

    def __init__(
        self,
        sizes: Sizes,
        side_px: int,
        *,
        sensor: str = "others",
        level: str = "others",
        nominal_gsd_m: float | None = NOMINAL_GSD_M,
        sentences: Path = SHIPPED,
    ) -> None:
        super().__init__(sizes)
        self.dim, self.side_px, self.stride_px = sizes.width, side_px, sizes.patch_px
        self.sensor, self.level, self.nominal_gsd_m = sensor, level, nominal_gsd_m
        vectors = read_sentences(sentences)
        # part of a run's file: with other vectors the same weights give other features
        self.register_buffer(SENTENCE_TABLE, torch.stack([vectors[name] for name in SENTENCES]))

    def encode(
        self,
        cube: Tensor,
        wavelengths_nm: Sequence[float],
        gsd_m: Sequence[float],
        *,
        rng: random.Random | None = None,
    ) -> FeatureMaps:
        """As the contract says; in training dropout is drawn from rng. Bands outside 350-2550 nm are left out."""
        readable_cube, camera = self.seen(cube, wavelengths_nm, gsd_m)
        with drawing(self, rng, cube.device):
            maps = self.taps(readable_cube, camera)
        return FeatureMaps.of(maps, cube.shape[-1])

    def seen(self, cube: Tensor, wavelengths_nm: Sequence[float], gsd_m: Sequence[float]) -> tuple[Tensor, Camera]:
        """The readable bands of a cube (B, C, S, S), and what the network is told of their camera."""
        inside = readable_of(cube.shape[1], wavelengths_nm, RANGE_NM)
        camera = Camera(
            [wavelengths_nm[k] for k in inside],
            gsd_m=self.nominal_gsd_m if self.nominal_gsd_m is not None else list(gsd_m),
            sensor=self.sensor,
            level=self.level,
        )
        if self.topology.condition != "content":
            # the buffer's, which come with a run's file and move with the network
            self.patch_embed.spectral_embedding.sentences = dict(zip(SENTENCES, self.sentences, strict=True))
        return cube[:, inside], camera

    def require_bands(self, wavelengths_nm: Sequence[float]) -> None:
        """BandError if no band lies in the range of the wavelength code."""
        require_bands(wavelengths_nm)

    def sizes(self) -> dict[str, Any]:
        """Of the encoder, the side of its input, and what all images are said to be."""
        return {
            **asdict(self.topology),
            "side_px": self.side_px,
            "sensor": self.sensor,
            "level": self.level,
            "nominal_gsd_m": self.nominal_gsd_m,
        }

    def published_state(self) -> dict[str, Tensor]:
        """The state dict without the sentence vectors, which published files leave out."""
        return {name: tensor for name, tensor in self.state_dict().items() if name != SENTENCE_TABLE}

    def save_memory(self) -> None:
        """Recompute the transformer's blocks in the backward pass."""
        self.recompute = True

    def compile_blocks(self) -> None:
        """Compile the transformer's blocks, which are alike."""
        for block in self.blocks:
            block.compile()


def topology(settings: StudentSettings) -> Sizes:
    """Sizes of the network that the settings name; ConfigError for a width that its heads cannot share."""
    own = settings.specaware
    sizes = SMALL if settings.size == "small" else PUBLISHED[settings.size]
    depth = own.depth or sizes.depth
    changed = replace(
        sizes,
        width=own.width or sizes.width,
        depth=depth,
        heads=own.heads or sizes.heads,
        taps=quarters(depth),
        patch_px=own.patch_px,
        condition=own.condition,
    )
    if changed.width % changed.heads or changed.width % 4:
        raise ConfigError(
            f"pretrain.student.specaware.width {changed.width} must be a multiple of 4 and of its {changed.heads} heads"
        )
    return changed


def build(settings: StudentSettings) -> SpecAwareBackbone:
    """The network of the settings with its first weights, drawn from torch's generator."""
    own = settings.specaware
    network = SpecAwareBackbone(
        topology(settings),
        settings.crop_px,
        sensor=own.sensor,
        level=own.level,
        nominal_gsd_m=own.nominal_gsd_m,
        sentences=SHIPPED if own.sentences is None else Path(own.sentences).expanduser(),
    )
    first_weights(network)
    network.patch_embed.matrix_generator.keep_scale()
    return network


def rebuild(sizes: dict[str, Any]) -> SpecAwareBackbone:
    """The network of recorded sizes."""
    of_encoder = {name: value for name, value in sizes.items() if name in Sizes.__dataclass_fields__}
    of_encoder["taps"] = tuple(of_encoder["taps"])  # JSON knows no tuples
    others = {name: value for name, value in sizes.items() if name not in of_encoder}
    return SpecAwareBackbone(Sizes(**of_encoder), **others)


def adopt(parts: Sequence[Mapping[str, Tensor]], config: Mapping[str, Any], source: str) -> SpecAwareBackbone:
    """The network of a published file, its decoder left out; WeightsError for another network's file.

    config : patch_size may be another than the file's: the generated kernels are then resized, as published
    """
    weights = encoder_part(only(parts, source, "SpecAware"))
    sizes = sizes_of(weights, config, source)
    patch_px = int(config.get("patch_size", sizes.patch_px))
    if patch_px != sizes.patch_px:
        weights = resized_patches(weights, patch_px, sizes.rank)
        sizes = replace(sizes, patch_px=patch_px)
    network = SpecAwareBackbone(sizes, int(config.get("img_size", 224)))
    filled(network, {**weights, SENTENCE_TABLE: network.sentences}, source)
    return network


def require_bands(wavelengths_nm: Sequence[float]) -> None:
    """BandError if no band (C,), nm, lies in the range of the wavelength code."""
    readable(wavelengths_nm, RANGE_NM)
