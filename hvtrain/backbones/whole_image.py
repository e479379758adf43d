"""Feature maps of whole images of any size, with where their cells lie in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.models.padding import fitted, padded
from hvtrain.backbones.contract import Backbone
from hvtrain.data.inputs import in_range


@dataclass(frozen=True)
class ImageMaps:
    """Maps of a batch of images of one size, cells of the padding cut off.

    maps       : each (B, D, h, w), the one that prompts are decoded on last
    strides_px : px of the given image along a side of each map's cell; the last row and column may reach beyond it
    size_px    : (H, W) of the given image
    """

    maps: tuple[Tensor, ...]
    strides_px: tuple[float, ...]
    size_px: tuple[int, int]

    @property
    def last(self) -> Tensor:
        """(B, D, h, w), the map that prompts are decoded on."""
        return self.maps[-1]

    def at_pixels(self, k: int = -1) -> Tensor:
        """(B, D, H, W) of the k-th map at the pixels of the given image, bilinear."""
        of_cells = self.maps[k]
        grid = []
        for n_pixels, n_cells in zip(self.size_px, of_cells.shape[2:], strict=True):
            middle_px = torch.arange(n_pixels, device=of_cells.device) + 0.5
            # grid_sample counts from -1 to 1 over all cells, of which the last may be cut by the image's edge
            covered_px = self.strides_px[k] * n_cells
            grid.append(2 * middle_px / covered_px - 1)
        y, x = torch.meshgrid(*grid, indexing="ij")  # (H, W) each
        xy = torch.stack([x, y], dim=-1)  # (H, W, 2); grid_sample takes x first
        places = xy.to(of_cells.dtype).expand(len(of_cells), -1, -1, -1)  # (B, H, W, 2)
        return F.grid_sample(of_cells, places, align_corners=False, padding_mode="border")


def maps_of_images(network: Backbone, images: Tensor, wavelengths_nm: Sequence[float], gsd_m: float = 1.0) -> ImageMaps:
    """Maps of whole images, fed as the published predictor does: the longest side resized to the network's input.

    images         : (B, C, H, W) float32 physical values, all finite
    wavelengths_nm : (C,) band centres
    gsd_m          : ground sampling distance, m per px of the images
    BandError as the network's require_bands.
    """
    side_px = network.side_px
    longest_px = max(images.shape[2:])
    x, (height, width) = fitted(images, side_px)
    x = padded(in_range(x, network.input_range), side_px)  # in range first: padding shall not count
    input_gsd_m = gsd_m * longest_px / side_px
    of_images = [input_gsd_m] * len(x)
    maps = network.encode(x, wavelengths_nm, of_images)
    cut = []
    for whole in maps:
        # cells that the image reaches into, rounded up
        rows = -(-height * whole.shape[2] // side_px)
        columns = -(-width * whole.shape[3] // side_px)
        cut.append(whole[:, :, :rows, :columns])
    # the longest side fills the whole input, so that it alone tells the stride
    strides_px = tuple(longest_px / whole.shape[2] for whole in maps)
    size_px = (images.shape[2], images.shape[3])
    return ImageMaps(maps=tuple(cut), strides_px=strides_px, size_px=size_px)
