"""Maps of two crops, brought to one width and one grid: where the heads that correlate level by level begin."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.errors import ConfigError

LEAST_KERNEL = 3  # cells of a template: a convolution of 3 x 3 without padding leaves one
LEAST_GRID = 7  # cells of a search map: a template laid over it has 5 x 5 places


class Levels(nn.Module):
    """Each map through a layer of its own, the same for template and search crops.

    ConfigError for maps of too few cells.

    widths : channels of each map of the backbone
    grid   : cells along a side of the last one
    width  : channels of a level
    """

    def __init__(self, widths: Sequence[int], grid: int, width: int) -> None:
        super().__init__()
        if grid < LEAST_GRID:
            raise ConfigError(
                f"maps of {grid} x {grid} cells are too small to lay a template over, at least {LEAST_GRID} x "
                f"{LEAST_GRID} are needed; choose head center, or a backbone of a larger input"
            )
        self.grid, self.kernel = grid, kernel_of(grid)
        layers = []
        for n_channels in widths:
            convolution = nn.Conv2d(n_channels, width, 1, bias=False)
            layers.append(nn.Sequential(convolution, nn.BatchNorm2d(width)))
        self.adjust = nn.ModuleList(layers)

    def search(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, D, g, g) per level, of the maps (B, D_i, h, w) of search crops."""
        size = (self.grid, self.grid)
        levels = []
        for adjust, of_scale in zip(self.adjust, maps, strict=True):
            cells = F.interpolate(of_scale.float(), size=size, mode="area")
            levels.append(adjust(cells))
        return levels

    def template(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, D, k, k) per level: the inner cells of templates' maps, which the object fills."""
        first = (self.grid - self.kernel) // 2
        inner = slice(first, first + self.kernel)
        return [level[:, :, inner, inner] for level in self.search(maps)]


class LevelHead(nn.Module):
    """What heads over such levels have in common; what they make of them is their own.

    widths, grid, width : as of Levels
    """

    def __init__(self, widths: Sequence[int], grid: int, width: int) -> None:
        super().__init__()
        self.widths, self.grid = tuple(widths), grid
        self.levels = Levels(widths, grid, width)

    def template(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, D, k, k) per level, of templates' maps (B, D_i, h, w): made once for a sequence."""
        return self.levels.template(maps)


def kernel_of(grid: int) -> int:
    """Cells along a side of a template that is cut out of a grid: about a quarter, its middle the crop's own."""
    least = max(LEAST_KERNEL, grid // 4)  # the box fills about a quarter of the crop's side
    # an odd rest would put the template half a cell off, and every box with it
    return least + (grid - least) % 2
