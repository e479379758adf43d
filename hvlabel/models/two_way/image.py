"""What the decoder knows of an image before it sees the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from hvlabel.models.two_way.attention import SharedProjections, shared_projections
from hvlabel.models.two_way.contract import DecoderParts, layers_of
from hvlabel.models.two_way.upscaling import finer_cells


@dataclass(frozen=True)
class ImageSide:
    """An image as the decoder reads it.

    image  : (N, D) tokens, or (B, N, D) where each prompt has its own; N = product of grid_hw
    code   : (N, D) their position code
    finer  : (4N, D/4) and (16N, D/8) finer features in the order of cells, or none
    shared : of an image that all prompts share
    """

    image: Tensor
    code: Tensor
    grid_hw: tuple[int, int]
    finer: tuple[Tensor, ...] = ()
    shared: SharedProjections | None = None


def image_side(decoder: DecoderParts, image: Tensor, code: Tensor, high_res: Sequence[Tensor]) -> ImageSide:
    """Of an image that all prompts share, in the decoder's precision.

    image    : (1, D, g, g), dense prompt included
    code     : (1, D, g, g) position code
    high_res : two finer feature maps, finest first, (1, D/8, 4g, 4g) and (1, D/4, 2g, 2g), or none
    """
    dtype = decoder.iou_token.weight.dtype
    tokens, position = (x[0].flatten(1).T.to(dtype).contiguous() for x in (image, code))  # (N, D) each
    grid_hw = (image.shape[2], image.shape[3])
    first_layer = layers_of(decoder.transformer)[0]
    return ImageSide(
        tokens,
        position,
        grid_hw,
        finer=finer_cells(high_res, grid_hw, dtype),
        shared=shared_projections(first_layer, tokens, tokens + position),
    )
