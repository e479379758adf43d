"""Teacher tokens of a crop."""

from __future__ import annotations

import math

import numpy as np

from hvlabel.cache.features import Features


def tokens_of_box(features: Features, box: tuple[int, int, int], grid: int) -> np.ndarray:
    """(grid, grid, D) float16 features at the centres of a box cut into grid x grid cells, bilinear between tokens.

    box : top, left and side, px of the picture; beyond the outermost token centres the outermost token counts
    """
    *corner, side = box
    windows, weights = [], []
    for start, n_tokens, stride in zip(corner, features.shape, features.stride_yx_px, strict=False):
        centres_px = start + (np.arange(grid) + 0.5) * side / grid
        place = np.clip(centres_px / stride - 0.5, 0, n_tokens - 1)  # (grid,) in tokens
        first = math.floor(place[0])
        last = min(math.floor(place[-1]) + 1, n_tokens - 1)
        tokens_of_axis = np.arange(first, last + 1)
        distance = np.abs(place[:, None] - tokens_of_axis)  # (grid, tokens)
        windows.append(slice(first, last + 1))
        near = np.maximum(1 - distance, 0)  # rows sum to 1
        weights.append(near.astype(np.float32))
    window_y, window_x = windows
    weights_y, weights_x = weights
    tokens = features.read(window_y, window_x).astype(np.float32)  # (y, x, D), no more than the box needs
    along_x = np.einsum("gx,yxd->ygd", weights_x, tokens)  # (y, grid, D)
    of_cells = np.einsum("gy,yxd->gxd", weights_y, along_x)  # (grid, grid, D)
    return of_cells.astype(np.float16)
