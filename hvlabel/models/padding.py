"""Images scaled to the longest side of a square input and padded, as SAM and HyperFree take them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resized_hw(height_px: int, width_px: int, side_px: int) -> tuple[int, int]:
    """(height, width) after scaling the longest side to side_px, rounded half up as published; at least one px."""
    scale = side_px / max(height_px, width_px)
    height = int(height_px * scale + 0.5)
    width = int(width_px * scale + 0.5)
    return max(1, height), max(1, width)


def fitted(image: Tensor, side_px: int) -> tuple[Tensor, tuple[int, int]]:
    """(1, C, h, w) float32 of the longest side side_px, antialiased where it shrinks, and (h, w).

    image : (1, C, H, W)
    """
    height_px, width_px = image.shape[2:]
    size = resized_hw(height_px, width_px, side_px)
    resized = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized, size


def padded(image: Tensor, side_px: int) -> Tensor:
    """(1, C, S, S): zeros right of and below a (1, C, h, w) image."""
    right = side_px - image.shape[3]
    below = side_px - image.shape[2]
    return F.pad(image, (0, right, 0, below))
