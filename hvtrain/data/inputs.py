"""From stored values to a network's input."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.models.sam.predictor import PIXEL_MEAN, PIXEL_STD

# what a backbone eats. unit_max: every sample divided by its largest value; stored: values as the cube holds them;
# photograph: grey levels 0..255 of red, green and blue less their mean, in standard deviations, as of SAM's training
InputRange = Literal["unit_max", "stored", "photograph"]
PICTURE_NM = (640.0, 550.0, 460.0)  # as whose band centres a backbone is shown the red, green and blue of a picture


def finite(x: Tensor) -> Tensor:
    """Values that are no numbers or infinite as 0: they must neither spread nor set the scale."""
    return torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)


def resized(x: Tensor, side_px: int) -> Tensor:
    """(B, C, S, S) of (B, C, s, s) float32, bilinear with antialiasing."""
    if x.shape[-1] == side_px:
        return x
    size = (side_px, side_px)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)


def network_input(cube: Tensor, flips: Tensor, side_px: int, input_range: InputRange = "unit_max") -> Tensor:
    """(B, C, S, S) float32 in the range that a backbone asks for, mirrored where asked.

    cube  : (B, C, s, s) stored values; resized to S before they are scaled, as published predictors do
    flips : (B, 2) bool, along y and x
    """
    values = cube.float()
    if cube.is_floating_point():
        values = finite(values)
    x = resized(values, side_px)
    for axis in (0, 1):
        chosen = flips[:, axis]  # (B,)
        if chosen.any():
            x[chosen] = x[chosen].flip(2 + axis)
    return in_range(x, input_range)


def in_range(x: Tensor, input_range: InputRange) -> Tensor:
    """Images (B, C, S, S) float32 of stored values in the range that a backbone asks for."""
    if input_range == "stored":
        return x
    if input_range == "photograph":
        mean = x.new_tensor(PIXEL_MEAN).view(3, 1, 1)
        deviation = x.new_tensor(PIXEL_STD).view(3, 1, 1)
        return (x - mean) / deviation
    peak = x.amax(dim=(1, 2, 3), keepdim=True)  # (B, 1, 1, 1)
    # an image of zeros stays one: a camera of which nothing can be read is shown so
    divisor = torch.where(peak > 0, peak, torch.ones_like(peak))
    return x / divisor
