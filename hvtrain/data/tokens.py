"""Teacher tokens of a crop."""

from __future__ import annotations

import math

import numpy as np

from hvlabel.cache.features import Features


def tokens_of_box(features: Features, box: tuple[int, int, int], grid: int) -> np.ndarray:
    """(grid, grid, D) float16 features at the centres of a box cut into grid x grid cells, bilinear between tokens.

    box : top, left and side, px of the picture; beyond the outermost token centres the outermost token counts
    """
    windows, weights = [], []
    for start, n_tokens, stride in zip(box[:2], features.shape, features.stride_yx_px, strict=False):
        centres_px = start + (np.arange(grid) + 0.5) * box[2] / grid
        place = np.clip(centres_px / stride - 0.5, 0, n_tokens - 1)  # (grid,) in tokens
        first = math.floor(place[0])
        last = min(math.floor(place[-1]) + 1, n_tokens - 1)
        distance = np.abs(place[:, None] - np.arange(first, last + 1))
        windows.append(slice(first, last + 1))
        weights.append(np.maximum(1 - distance, 0).astype(np.float32))  # (grid, tokens), rows sum to 1
    window_y, window_x = windows
    weights_y, weights_x = weights
    tokens = features.read(window_y, window_x).astype(np.float32)  # (y, x, D), no more than the box needs
    along_x = np.einsum("gx,yxd->ygd", weights_x, tokens)  # (y, grid, D)
    return np.einsum("gy,yxd->gxd", weights_y, along_x).astype(np.float16)
