"""What a dense head sees of images: a picture at full size, maps of a frozen backbone, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class View:
    """B images of one size.

    size_px   : (H, W) of the images and of their labels
    picture   : (B, C, H, W) float32, or none
    maps      : (B, D, h, w) float32 each, the deepest last; none where there is no backbone
    stride_px : px of the image along a side of the last map's cell
    """

    size_px: tuple[int, int]
    picture: Tensor | None = None
    maps: Sequence[Tensor] = ()
    stride_px: float = 1.0

    @property
    def covered_px(self) -> tuple[int, int]:
        """(H', W') that the cells of the last map cover: the image, and a rest of a cell right of and below it."""
        rows, columns = self.maps[-1].shape[2:]
        height, width = self.size_px
        # a stride need not be whole: rounding must not leave out the last row of the image
        covered_height = max(height, round(rows * self.stride_px))
        covered_width = max(width, round(columns * self.stride_px))
        return covered_height, covered_width


def padded_picture(view: View) -> Tensor:
    """(B, C, H', W') the picture over all that the maps cover; the last pixels are repeated."""
    assert view.picture is not None
    height, width = view.covered_px
    image_height, image_width = view.size_px
    missing = (0, width - image_width, 0, height - image_height)  # right and bottom
    return F.pad(view.picture, missing, mode="replicate")


def at_image_size(logits: Tensor, view: View) -> Tensor:
    """(B, K, H, W) of logits (B, K, h, w) over all that the maps cover, bilinear."""
    large = F.interpolate(logits, size=view.covered_px, mode="bilinear", align_corners=False)
    height, width = view.size_px
    return large[:, :, :height, :width]
