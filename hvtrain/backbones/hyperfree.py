"""HyperFree, which is also the published HyperVision model. It brings SAM's prompt decoder."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from hvlabel.config import StudentSettings
from hvlabel.errors import BandError
from hvlabel.models.hyperfree import HyperFree, Topology, choose_channels, load_hyperfree, published_topology
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.parts.states import only
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.data.inputs import InputRange

SMALL = Topology(
    image_size_px=128,
    patch_px=8,
    embed_dim=128,
    depth=6,
    num_heads=4,
    window_px=8,
    global_blocks=(1, 3, 5),
    out_dim=128,
    decoder_mlp=512,
    iou_hidden=128,
)
SMALL_MERGES = (2, 6)  # like the published ones: the second is never reached
NECK_NORM = 0.5  # first weight of the neck's last norm: features must not drown the position code


class HyperFreeBackbone(HyperFree, Backbone):
    """The published network behind the contract; its state dict is the published layout."""

    name: ClassVar[str] = "hyperfree"
    input_range: ClassVar[InputRange] = "unit_max"

    def __init__(self, topology: Topology) -> None:
        super().__init__(topology)
        self.dim = topology.out_dim
        self.side_px = topology.image_size_px
        self.stride_px = topology.image_size_px // topology.decoder_grid

    def encode(  # type: ignore[override]  # test_mode is whether there is an rng
        self,
        cube: Tensor,
        wavelengths_nm: Sequence[float],
        gsd_m: Sequence[float] = (1.0,),
        *,
        rng: random.Random | None = None,
    ) -> FeatureMaps:
        """As the contract says; in training slots of the dictionary are drawn from rng."""
        in_test = rng is None
        maps = super().encode(cube, wavelengths_nm, gsd_m, test_mode=in_test, rng=rng)
        return FeatureMaps.of(maps, cube.shape[-1])

    def require_bands(self, wavelengths_nm: Sequence[float]) -> None:
        """BandError if no band lies in the spectral dictionary."""
        require_bands(wavelengths_nm)

    def sizes(self) -> dict[str, Any]:
        """The topology."""
        return asdict(self.topology)

    def position_tables(self) -> frozenset[str]:
        """Of the blocks that attend over the whole grid."""
        names = []
        for block in self.topology.global_blocks:
            attention = f"image_encoder.blocks.{block}.attn"
            names += [f"{attention}.rel_pos_h", f"{attention}.rel_pos_w"]
        return frozenset(names)

    def save_memory(self) -> None:
        """Recompute the transformer's blocks in the backward pass."""
        self.image_encoder.recompute = True

    def compile_blocks(self) -> None:
        """Compile the transformer's blocks, which are alike."""
        for block in self.image_encoder.blocks:
            block.compile()


def topology(settings: StudentSettings) -> Topology:
    """Sizes of the network that the settings name."""
    if settings.size == "small":
        merges = SMALL_MERGES if settings.merging else None
        return replace(SMALL, image_size_px=settings.crop_px, merge_blocks=merges)
    return published_topology(settings.size, settings.crop_px, merging=settings.merging)


def build(settings: StudentSettings) -> HyperFreeBackbone:
    """The network of the settings with its first weights, drawn from torch's generator."""
    network = HyperFreeBackbone(topology(settings))
    calm_neck(network)
    return network


def calm_neck(network: HyperFree) -> None:
    """Set the first weight of the neck's last norm."""
    neck: Any = network.image_encoder.neck
    nn.init.constant_(neck[-1].weight, NECK_NORM)


def rebuild(sizes: dict[str, Any]) -> HyperFreeBackbone:
    """The network of recorded sizes."""
    values: dict[str, Any] = {}
    for name, value in sizes.items():
        values[name] = tuple(value) if isinstance(value, list) else value  # JSON knows no tuples
    return HyperFreeBackbone(Topology(**values))


def adopt(parts: Sequence[Mapping[str, Tensor]], config: Mapping[str, Any], source: str) -> HyperFreeBackbone:
    """The network of a published file; WeightsError as load_hyperfree.

    config : img_size where position tables do not tell it, merge_indexs where the file holds merging modules
    """
    merges = config.get("merge_indexs")
    published = load_hyperfree(
        only(parts, source, "HyperFree"),
        image_size_px=config.get("img_size"),
        merge_blocks=None if merges is None else tuple(merges),
        source=source,
    )
    network = HyperFreeBackbone(published.topology)
    network.load_state_dict(published.state_dict())
    return network


def require_bands(wavelengths_nm: Sequence[float]) -> None:
    """BandError if no band (C,), nm, lies in the spectral dictionary."""
    choice = choose_channels(wavelengths_nm)
    if not choice.key_channels and not choice.cube_channels:
        low_nm, high_nm = min(wavelengths_nm), max(wavelengths_nm)
        raise BandError(f"no band lies in the dictionary's range 390-2510 nm (bands: {low_nm:g}-{high_nm:g} nm)")
