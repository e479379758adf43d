"""HyperSIGMA behind the contract of all backbones."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from hvlabel.config import StudentSettings
from hvlabel.errors import ConfigError, WeightsError
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.hypersigma import files
from hvtrain.backbones.hypersigma.dictionary import DictionaryEmbed, require_slots
from hvtrain.backbones.hypersigma.fusion import Gates, gated
from hvtrain.backbones.hypersigma.resampling import resampled
from hvtrain.backbones.hypersigma.sizes import Sizes, first_weights, published, quarter_taps, sparse_blocks
from hvtrain.backbones.hypersigma.spatial import SpatVit
from hvtrain.backbones.hypersigma.spectral import TOKENS, SpecVit
from hvtrain.backbones.parts.bands import RangeNm, readable, readable_of
from hvtrain.backbones.parts.draws import drawing
from hvtrain.backbones.parts.states import filled
from hvtrain.backbones.parts.transformer import Grid
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.data.inputs import InputRange

RANGE_NM = (400.0, 2500.0)
DICTIONARY_NM = (390.0, 2510.0)  # its slots and their tolerance
SMALL = Sizes(width=96, depth=4, heads=4, points=4, taps=(0, 1, 2, 3))
SMALL_INTERVAL = 2  # every second block attends to all tokens
PUBLISHED_SIDE_PX = 64  # of the images that the tables were made for
SMALLEST_PATCH_PX = 4
GATES, DICTIONARY = "fc_spec", "dictionary."


class HyperSigmaBackbone(Gates, Backbone):
    """The two transformers by the names of the published heads. The taps are maps before any pooling, and raw but for
    the last block's, which are normed as the autoencoder's latent is.

    range_nm   : centres of the first and the last fixed band
    dictionary : tokens by a spectral dictionary, of a camera's own bands, instead of the fixed ones
    spectral   : sizes of the spectral transformer; none: the spatial one alone
    """

    name: ClassVar[str] = "hypersigma"
    input_range: ClassVar[InputRange] = "unit_max"

    def __init__(
        self,
        spatial: Sizes,
        side_px: int,
        *,
        n_bands: int = 100,
        patch_px: int = 8,
        made_for: Grid = (8, 8),
        range_nm: RangeNm = RANGE_NM,
        dictionary: bool = False,
        spectral: Sizes | None = None,
        spectral_side_px: int = PUBLISHED_SIDE_PX,
        n_tokens: int = TOKENS,
    ) -> None:
        super().__init__()
        self.dim, self.side_px, self.stride_px = spatial.width, side_px, patch_px
        self.n_bands, self.range_nm = n_bands, DICTIONARY_NM if dictionary else range_nm
        self.spat_encoder = SpatVit(spatial, None if dictionary else n_bands, made_for, patch_px)
        self.dictionary = DictionaryEmbed(spatial.width, patch_px) if dictionary else None
        self.spec_encoder: SpecVit | None = None
        if spectral is not None:
            self.spec_encoder = SpecVit(spectral, spectral_side_px, n_tokens)
            self.add_gates(n_tokens, spatial.width)

    @property
    def fixed_nm(self) -> np.ndarray:
        """(F,) centres of the fixed bands."""
        return np.linspace(*self.range_nm, self.n_bands)

    def encode(
        self,
        cube: Tensor,
        wavelengths_nm: Sequence[float],
        gsd_m: Sequence[float],
        *,
        rng: random.Random | None = None,
    ) -> FeatureMaps:
        """As the contract says; in training skipped branches are drawn from rng. Bands out of range are left out."""
        inside = readable_of(cube.shape[1], wavelengths_nm, self.range_nm)
        centres_nm = [wavelengths_nm[k] for k in inside]
        cube = cube[:, inside]
        with drawing(self, rng, cube.device):
            maps = self._spatial_maps(cube, centres_nm, rng)
            if self.spec_encoder is not None:
                x = resampled(cube, centres_nm, self.fixed_nm)
                summary, *_ = self.spec_encoder.taps(self.pooled(x))  # (B, T, 128)
                shallow_first = reversed(self.gates_of(summary))
                pairs = zip(maps, shallow_first, strict=True)
                maps = [gated(of_tap, shares) for of_tap, shares in pairs]
        return FeatureMaps.of(maps, cube.shape[-1])

    def _spatial_maps(self, cube: Tensor, centres_nm: Sequence[float], rng: random.Random | None) -> list[Tensor]:
        """(B, D, h, w) after the tapped blocks, shallow ones first, of a cube of readable bands alone."""
        encoder = self.spat_encoder
        grid = encoder.grid(cube)
        if self.dictionary is None:
            patches = encoder.patch_embed(resampled(cube, centres_nm, self.fixed_nm))
        else:
            patches = self.dictionary(cube, centres_nm, rng)  # (B, N, D)
        tokens = encoder.placed(patches, grid)
        hidden = encoder.passed(tokens, grid)
        # as its decoder saw them in pre-training: raw tokens grow from block to block, and heads do not like that
        hidden[-1] = encoder.norm(hidden[-1])
        return encoder.tapped(hidden, grid)

    def fixed(self, cube: Tensor, wavelengths_nm: Sequence[float]) -> Tensor:
        """(B, F, S, S) in the fixed bands."""
        inside = readable_of(cube.shape[1], wavelengths_nm, self.range_nm)
        centres_nm = [wavelengths_nm[k] for k in inside]
        return resampled(cube[:, inside], centres_nm, self.fixed_nm)

    def pooled(self, x: Tensor) -> Tensor:
        """(B, F, s, s) of (B, F, S, S): the size that the spectral transformer was made for."""
        assert self.spec_encoder is not None
        return F.adaptive_avg_pool2d(x, self.spec_encoder.side_px)

    def require_bands(self, wavelengths_nm: Sequence[float]) -> None:
        """BandError if no band lies between the first and the last fixed one, or in the dictionary."""
        readable(wavelengths_nm, self.range_nm)
        if self.dictionary is not None:
            require_slots(wavelengths_nm)

    def sizes(self) -> dict[str, Any]:
        """Of the transformers, the fixed bands, and the side of the input."""
        spectral = self.spec_encoder
        return {
            "spatial": asdict(self.spat_encoder.topology),
            "side_px": self.side_px,
            "n_bands": self.n_bands,
            "patch_px": self.stride_px,
            "made_for": list(self.spat_encoder.made_for),  # JSON knows no tuples
            "range_nm": list(self.range_nm),
            "dictionary": self.dictionary is not None,
            "spectral": None if spectral is None else asdict(spectral.topology),
            "spectral_side_px": PUBLISHED_SIDE_PX if spectral is None else spectral.side_px,
            "n_tokens": TOKENS if spectral is None else spectral.n_tokens,
        }

    def published_state(self) -> dict[str, Tensor]:
        """The spatial transformer by its own names; with the spectral one, both by the names of the published heads."""
        state = self.state_dict()
        alone = self.spec_encoder is None and self.dictionary is None
        return files.part(state, files.SPATIAL) if alone else state

    def may_be_missing(self) -> tuple[str, ...]:
        """Offsets of sparse attention, gates and dictionary: pre-training has none of them."""
        names = _offsets(files.SPATIAL, self.spat_encoder.topology)
        if self.dictionary is not None:
            names.append(DICTIONARY)
        if self.spec_encoder is not None:
            names += _offsets(files.SPECTRAL, self.spec_encoder.topology)
            names += [GATES, f"{files.SPECTRAL}l1."]
        return tuple(names)

    def unread(self) -> tuple[str, ...]:
        """The patch embedding, where a dictionary stands in its place."""
        return () if self.dictionary is None else (f"{files.SPATIAL}patch_embed.",)

    def save_memory(self) -> None:
        """Recompute the transformers' blocks in the backward pass."""
        self.spat_encoder.recompute = True
        if self.spec_encoder is not None:
            self.spec_encoder.recompute = True

    def compile_blocks(self) -> None:
        """Compile the transformers' blocks, which are alike."""
        spectral = () if self.spec_encoder is None else self.spec_encoder.blocks
        for block in (*self.spat_encoder.blocks, *spectral):
            block.compile()


def _offsets(encoder: str, sizes: Sizes) -> list[str]:
    """Starts of the names of the weights by which a transformer's sparse attention chooses its places."""
    return [f"{encoder}blocks.{block}.attn.{files.OFFSETS}" for block in sizes.sparse]


def topologies(settings: StudentSettings) -> tuple[Sizes, Sizes]:
    """Sizes of the spatial and the spectral transformer; ConfigError for a width that its heads cannot share."""
    own = settings.hypersigma
    small = settings.size == "small"
    spatial = SMALL if small else published(settings.size)
    spectral = replace(SMALL, taps=(1,)) if small else published(settings.size, spectral=True)
    depth = own.depth or spatial.depth
    quarters = quarter_taps(depth)
    interval = SMALL_INTERVAL if small else max(1, spatial.depth // 4)
    sparse = {"mhsa": (), "ssa": sparse_blocks(depth, interval)}
    of_settings = []
    for sizes, taps in ((spatial, quarters), (spectral, quarters[:1])):
        changed = replace(
            sizes,
            width=own.width or sizes.width,
            depth=depth,
            heads=own.heads or sizes.heads,
            sparse=sparse[own.attention],
            taps=sizes.taps if depth == sizes.depth else taps,
        )
        if changed.width % changed.heads:
            raise ConfigError(
                f"pretrain.student.hypersigma.width {changed.width} must be a multiple of its {changed.heads} heads"
            )
        of_settings.append(changed)
    return of_settings[0], of_settings[1]


def build(settings: StudentSettings) -> HyperSigmaBackbone:
    """The network of the settings with its first weights, drawn from torch's generator."""
    own = settings.hypersigma
    spatial, spectral = topologies(settings)
    side = PUBLISHED_SIDE_PX // own.patch_px
    network = HyperSigmaBackbone(
        spatial,
        settings.crop_px,
        n_bands=own.bands,
        patch_px=own.patch_px,
        made_for=(side, side),
        range_nm=own.range_nm,
        dictionary=own.embedding == "dictionary",
        spectral=spectral if own.spectral else None,
    )
    first_weights(network)
    return network


def rebuild(sizes: dict[str, Any]) -> HyperSigmaBackbone:
    """The network of recorded sizes."""
    values: dict[str, Any] = {}
    for name, value in sizes.items():
        values[name] = _of_json(value)
    return HyperSigmaBackbone(**values)


def _of_json(value: Any) -> Any:
    """A size as it was before JSON, which knows neither tuples nor classes."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        fields = {name: _of_json(inner) for name, inner in value.items()}
        return Sizes(**fields)
    return value


def adopt(parts: Sequence[Mapping[str, Tensor]], config: Mapping[str, Any], source: str) -> HyperSigmaBackbone:
    """The network of published files: a spatial one, or a spatial and a spectral one; decoders are left out.

    WeightsError for another network's file, or a spectral one alone.
    """
    spatial, spectral = files.of_both(parts, source)
    of_spatial = files.spatial(spatial, config, source)
    of_spectral = files.spectral(spectral, config, source, taps="spec_tap") if spectral else None
    patch_px, (rows, columns) = of_spatial.patch_px, of_spatial.made_for
    if patch_px < SMALLEST_PATCH_PX:
        raise WeightsError(f"{source}: tokens of {patch_px} px; a backbone's are {SMALLEST_PATCH_PX} px at least")
    network = HyperSigmaBackbone(
        of_spatial.topology,
        int(config.get("img_size", rows * patch_px)),
        n_bands=of_spatial.patch_embed.proj.in_channels,
        patch_px=patch_px,
        made_for=(rows, columns),
        spectral=None if of_spectral is None else of_spectral.topology,
        spectral_side_px=PUBLISHED_SIDE_PX if of_spectral is None else of_spectral.side_px,
        n_tokens=TOKENS if of_spectral is None else of_spectral.n_tokens,
    )
    first_weights(network)  # of what pre-training has not: the gates
    state = {f"{files.SPATIAL}{name}": tensor for name, tensor in spatial.items()}
    state |= {f"{files.SPECTRAL}{name}": tensor for name, tensor in spectral.items()}
    for part in parts:
        state |= {name: tensor for name, tensor in part.items() if name.startswith(GATES)}
    return filled(network, state, source, unused=network.may_be_missing())


def require_bands(wavelengths_nm: Sequence[float]) -> None:
    """BandError if there is no band (C,), nm: which ones can be read follows from the range that a network has."""
    readable(wavelengths_nm, (0.0, math.inf))
