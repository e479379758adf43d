"""SAM's prompt decoder on any backbone's last map."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hvlabel.models.decoder import MaskDecoder, PromptedNetwork, PromptEncoder
from hvtrain.backbones.contract import Backbone
from hvtrain.data.feature_maps import FeatureMaps

# of the decoder, as the small HyperFree's
WIDTH, HEADS = 128, 8
MLP, IOU_HIDDEN = 512, 128
MASK_CHANNELS = 16
OF_BACKBONE = "backbone."  # start of the names of a backbone's weights in a prompted one


@dataclass(frozen=True)
class Prompts:
    """What N masks are asked for by.

    points_xy  : (N, P, 2) px of the network's input, or none
    labels     : (N, P) int64, 1 object, 0 not, with the points
    boxes_xyxy : (N, 4) px of the network's input, or none
    masks      : (N, 1, L, L) logits of an earlier answer, or none
    multimask  : three answers each, else one
    """

    points_xy: Tensor | None = None
    labels: Tensor | None = None
    boxes_xyxy: Tensor | None = None
    masks: Tensor | None = None
    multimask: bool = True


def answer(network: PromptedNetwork, maps: Sequence[Tensor], prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Logits (N, M, L, L) and predicted IoU (N, M) of N prompts with a last map (N, D, g, g) each; M is 3 or 1."""
    return network.decode(
        maps[-1],
        points_xy=prompts.points_xy,
        labels=prompts.labels,
        boxes_xyxy=prompts.boxes_xyxy,
        masks=prompts.masks,
        multimask=prompts.multimask,
    )


class PromptedBackbone(PromptedNetwork, Backbone):
    """A backbone that brings no prompt decoder, with one: its last map through a neck to the decoder's width."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.name, self.input_range = backbone.name, backbone.input_range  # type: ignore[misc]
        self.side_px, self.stride_px, self.dim = backbone.side_px, backbone.stride_px, WIDTH
        grid = self.side_px // self.stride_px
        self.neck = nn.Conv2d(backbone.dim, WIDTH, 1)
        self.prompt_encoder = PromptEncoder(WIDTH, grid, self.side_px, MASK_CHANNELS)
        self.mask_decoder = MaskDecoder(WIDTH, HEADS, MLP, IOU_HIDDEN)

    def encode(
        self,
        cube: Tensor,
        wavelengths_nm: Sequence[float],
        gsd_m: Sequence[float],
        *,
        rng: random.Random | None = None,
    ) -> FeatureMaps:
        """The backbone's maps, and the neck's (B, WIDTH, g, g) as last."""
        features = self.backbone.encode(cube, wavelengths_nm, gsd_m, rng=rng)
        last = self.neck(features.maps[-1])  # (B, WIDTH, g, g), on the grid of the map before it
        strides_px = (*features.strides_px, features.strides_px[-1])
        return FeatureMaps(maps=(*features.maps, last), strides_px=strides_px)

    def require_bands(self, wavelengths_nm: Sequence[float]) -> None:
        """As the backbone."""
        self.backbone.require_bands(wavelengths_nm)

    def sizes(self) -> dict[str, Any]:
        """As the backbone; the decoder's are fixed."""
        return self.backbone.sizes()

    def published_state(self) -> dict[str, Tensor]:
        """As the backbone: the prompt decoder is no part of what its authors publish."""
        return self.backbone.published_state()

    def may_be_missing(self) -> tuple[str, ...]:
        """As the backbone."""
        return tuple(f"{OF_BACKBONE}{name}" for name in self.backbone.may_be_missing())

    def unread(self) -> tuple[str, ...]:
        """As the backbone."""
        return tuple(f"{OF_BACKBONE}{name}" for name in self.backbone.unread())

    def position_tables(self) -> frozenset[str]:
        """As the backbone."""
        return frozenset(f"{OF_BACKBONE}{name}" for name in self.backbone.position_tables())

    def save_memory(self) -> None:
        """As the backbone."""
        self.backbone.save_memory()

    def compile_blocks(self) -> None:
        """As the backbone."""
        self.backbone.compile_blocks()


def prompted(backbone: Backbone) -> Backbone:
    """The backbone itself if it brings a prompt decoder, else with one, drawn from torch's generator."""
    return backbone if isinstance(backbone, PromptedNetwork) else PromptedBackbone(backbone)


def decoder_of(student: Backbone) -> PromptedNetwork:
    """A prompted backbone as what answers prompts."""
    assert isinstance(student, PromptedNetwork)
    return student


def without_prompts(student: Backbone) -> Backbone:
    """The backbone of a prompted one; HyperFree brings its own decoder and is returned as it is."""
    return student.backbone if isinstance(student, PromptedBackbone) else student
