"""From image tokens to masks four times finer, as matrix products over tokens.

The published upscaling is two transposed convolutions of 2 x 2 with stride 2: each makes four cells of a token, by one
matrix product. All stays in the order of cells: token by token, its four cells row by row, and so on inside each.
Only masks are put into rows and columns, 16 numbers per token instead of 16 * D/8.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.models.two_way.contract import ChannelNorm, Convolution, DecoderParts, upscaling_of


def mask_cells(decoder: DecoderParts, image: Tensor, vectors: Tensor, finer: Sequence[Tensor]) -> Tensor:
    """Logits (U, M, 16N) in the order of cells.

    image   : (U, N, D) tokens
    vectors : (U, M, D/8), one per mask: its logits are their products with the features of the cells
    finer   : (4N, D/4) and (16N, D/8) finer features of the image in the order of cells, or none
    """
    to_2x, norm, activation, to_4x, last_activation = upscaling_of(decoder)
    cells = _four_cells(to_2x, image)  # (U, 4N, D/4)
    if finer:
        cells += finer[0]
    cells = _four_cells(to_4x, activation(_normed(norm, cells)))  # (U, 16N, D/8)
    if finer:
        cells += finer[1]
    features = last_activation(cells)
    return vectors @ features.transpose(1, 2)


def in_rows(cells: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """(K, 16N) logits in the order of cells, contiguous -> (K, 4g, 4g), for a grid g that need not be square."""
    height, width = grid_hw
    # neighbours in a row lie side by side in both orders: moved as one number, in a tenth of the time on a CPU
    pair = {2: torch.int32, 4: torch.int64}[cells.element_size()]
    as_pairs = cells.view(pair)  # (K, 8N)
    split = as_pairs.unflatten(1, (height, width, 2, 2, 2))  # token, row and column in it, then row inside these
    rows_then_columns = split.permute(0, 1, 3, 5, 2, 4)
    rows = rows_then_columns.reshape(len(cells), 4 * height, 2 * width)
    return rows.view(cells.dtype)


def finer_cells(high_res: Sequence[Tensor], grid_hw: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Feature maps (1, C, h, w), finest first -> (h * w, C) in the order of cells, coarsest first as they are added."""
    return tuple(_by_cell(features[0], grid_hw).to(dtype) for features in reversed(high_res))


def _by_cell(features: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """(C, h, w) features, 2 or 4 times finer than the grid -> (h * w, C) in the order of cells."""
    height, width = grid_hw
    levels = (features.shape[1] // height).bit_length() - 1
    halvings = [2] * levels
    of_columns = features.unflatten(2, (width, *halvings))
    split = of_columns.unflatten(1, (height, *halvings))
    # axes are now C, then row and its halvings, then column and its halvings: those of a level go together
    order = [axis + level for level in range(levels + 1) for axis in (1, levels + 2)]
    return split.permute(*order, 0).flatten(0, -2)


def _four_cells(conv: Convolution, x: Tensor) -> Tensor:
    """(U, n, D) through a transposed convolution -> (U, 4n, C): each token's four cells, row by row."""
    by_cell = conv.weight.permute(2, 3, 1, 0)  # (2, 2, C, D)
    weight = by_cell.flatten(0, 2)  # (4C, D)
    products = F.linear(x, weight, conv.bias.repeat(4))
    cells = products.unflatten(2, (4, -1))  # (U, n, 4, C)
    return cells.flatten(1, 2)


def _normed(norm: ChannelNorm, x: Tensor) -> Tensor:
    """Layer norm of (..., C)."""
    # in float32: for rows of few bfloat16 channels the CPU's kernel takes twice the time
    wide = F.layer_norm(x.float(), norm.weight.shape, norm.weight.float(), norm.bias.float(), norm.eps)
    return wide.to(x.dtype)
