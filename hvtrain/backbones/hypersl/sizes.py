"""Sizes of HyperSL networks: the published ones, and those that a file's shapes tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hvlabel.errors import WeightsError
from hvtrain.backbones.parts.states import depth_of, shape_of

NETWORK = "HyperSL"
HEADS_OF_WIDTH = {256: 8, 512: 16, 1024: 32, 2048: 32}  # no file says it


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network.

    width, heads  : of all blocks
    depth         : of the encoder, its last, different layer included
    decoder_depth : of the decoder, its first, different layer included
    table_bands   : rows of a table that published files hold and nothing reads
    """

    width: int = 256
    depth: int = 8
    decoder_depth: int = 4
    heads: int = 8
    table_bands: int = 500


# names as in the published code; the file `10_base_mask95_checkpoint.pt` is of the size that the code calls small
PUBLISHED = {
    "small": Sizes(),
    "base": Sizes(width=512, depth=24, decoder_depth=12, heads=16),
    "large": Sizes(width=1024, depth=32, decoder_depth=16, heads=32),
    "huge": Sizes(width=2048, depth=48, decoder_depth=24, heads=32),
}


def sizes_of(state: Mapping[str, Tensor], config: Mapping[str, Any], source: str) -> Sizes:
    """Sizes of a state dict, with or without decoder.

    config : num_heads and max_band, by their published names, optional
    WeightsError for another network's state dict, or a width that the heads cannot share.
    """
    width = shape_of(state, "global_token", source, NETWORK)[-1]
    published_heads = HEADS_OF_WIDTH.get(width, 8)
    heads = int(config.get("num_heads", published_heads))
    if width % heads:
        raise WeightsError(f"{source}: a width of {width} cannot be shared by {heads} heads; say how many there are")
    rows = state["pe"].shape[1] if "pe" in state else int(config.get("max_band", Sizes.table_bands))
    # one more each: the layers that are counted but stand apart
    depth = depth_of(state, "encoder_blocks.") + 1
    decoder_depth = Sizes.decoder_depth
    if "mask_token" in state:
        decoder_depth = depth_of(state, "decoder_blocks.") + 1
    return Sizes(width, depth, decoder_depth, heads, rows)
