"""Tables of positions for another grid: as one would do it, and as the published loader does."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from hvtrain.backbones.hypersigma.sizes import square_side
from hvtrain.backbones.parts.transformer import Grid


def for_grid(table: Tensor, made_for: Grid, grid: Grid) -> Tensor:
    """A table (1, N, D) of a grid for another one, bicubic."""
    if made_for == grid:
        return table
    pictures = table.transpose(1, 2).unflatten(2, made_for)  # (1, D, h, w)
    resized = F.interpolate(pictures, size=grid, mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)


def as_published(table: Tensor, grid: Grid) -> Tensor:
    """A spatial table (1, N, D) as the published loader fits it to a grid.

    It compares roots of counts: 4 x 16 takes the table of 8 x 8 as it lies, although its tokens are elsewhere.
    """
    side = square_side(table.shape[1])
    if side == square_side(grid[0] * grid[1]):
        return table
    return for_grid(table, (side, side), grid)


def spectral_as_published(table: Tensor, n_tokens: int) -> Tensor:
    """A spectral table (1, T, D) as the published loader fits it.

    It takes the first token for a class token, and stretches the others over all places.
    """
    others = table[:, 1:]
    # a column of tokens: resized along one axis
    return for_grid(others, (others.shape[1], 1), (n_tokens, 1))
