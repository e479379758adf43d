"""Sizes of SpecAware networks: the published ones, and those that a file's shapes tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from hvtrain.backbones.parts.states import depth_of, shape_of

DOWNSTREAM_THUMBNAIL_PX = 28
HEADS_OF_WIDTH = {768: 12, 1024: 16}  # no file says it


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network.

    patch_px      : side of a token
    width         : channels of a token
    depth, heads  : of the encoder
    planes        : channels of what conditions the generators
    rank          : of the generated matrices
    thumbnail_px  : side of the thumbnails that a band's content is read from
    taps          : blocks whose tokens are maps; after the last one of the network they are normed
    decoder_width, decoder_depth, decoder_heads : of the autoencoder's decoder
    condition     : what the kernels of a band are generated from: what is known of it, what it shows, or both
    """

    patch_px: int = 8
    width: int = 768
    depth: int = 12
    heads: int = 12
    planes: int = 128
    rank: int = 64
    thumbnail_px: int = DOWNSTREAM_THUMBNAIL_PX
    taps: tuple[int, ...] = (2, 5, 8, 11)
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    condition: Literal["both", "metadata", "content"] = "both"


def quarters(depth: int) -> tuple[int, ...]:
    """The last block of each quarter of a network, each once: 2, 5, 8, 11 of twelve."""
    ends = [max(0, math.ceil(depth * quarter / 4) - 1) for quarter in (1, 2, 3, 4)]
    return tuple(dict.fromkeys(ends))


# the authors' large one cannot be built by their code, which starts from weights of base size
PUBLISHED = {
    "b": Sizes(),
    "l": Sizes(width=1024, depth=24, heads=16, taps=quarters(24)),
}


def sizes_of(state: Mapping[str, Tensor], config: Mapping[str, Any], source: str) -> Sizes:
    """Sizes of an encoder's state dict (without prefix), with or without the autoencoder's decoder.

    config : what no shape tells: num_heads, decoder_num_heads, taps; by the published names, all optional
    """
    width = shape_of(state, "cls_token", source, "SpecAware")[-1]
    generator = "patch_embed.matrix_generator"
    embedding_rows = shape_of(state, f"{generator}.u_generator.6.weight", source, "SpecAware")[0]
    pixel_rows = shape_of(state, f"{generator}.v_generator.6.weight", source, "SpecAware")[0]
    planes = shape_of(state, "patch_embed.feature_fusion.modal1_proj.weight", source, "SpecAware")[0]
    thumbnail = "patch_embed.content_feature_extractor.avg_feature_encoder.0.weight"
    thumbnail_pixels = shape_of(state, thumbnail, source, "SpecAware")[1]
    rank = embedding_rows // width  # U is (width, rank), V (rank, patch_px ** 2)
    depth = depth_of(state, "blocks.")
    decoder_width = state["mask_token"].shape[-1] if "mask_token" in state else Sizes.decoder_width
    return Sizes(
        patch_px=math.isqrt(pixel_rows // rank),
        width=width,
        depth=depth,
        heads=int(config.get("num_heads", HEADS_OF_WIDTH.get(width, 12))),
        planes=planes,
        rank=rank,
        thumbnail_px=math.isqrt(thumbnail_pixels),
        taps=tuple(config.get("taps", quarters(depth))),
        decoder_width=decoder_width,
        decoder_depth=depth_of(state, "decoder_blocks.") or Sizes.decoder_depth,
        decoder_heads=int(config.get("decoder_num_heads", Sizes.decoder_heads)),
    )
