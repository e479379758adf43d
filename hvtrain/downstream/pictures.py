"""What a network that knows no bands is shown of a cube: its first principal component, its mean, or three bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FULL = 255.0  # of a colour


def pca1(cube: np.ndarray) -> np.ndarray:
    """(1, H, W) float32 scores of the first principal component of this image's own pixels, mean 0, not whitened.

    The sign, which is free, makes the loading of the largest magnitude positive.

    cube : (C, H, W)
    """
    flat = cube.reshape(len(cube), -1)
    pixels = flat.astype(np.float64)  # (C, H*W)
    centred = pixels - pixels.mean(axis=1, keepdims=True)
    # of the bands' covariance, at most some hundred a side; all pixels count, none is drawn at random
    covariance = centred @ centred.T  # (C, C), not divided: a factor moves no vector
    _, vectors = np.linalg.eigh(covariance)  # values rise: the last one is the first component
    loading = vectors[:, -1]
    largest = np.abs(loading).argmax()
    loading = loading * np.sign(loading[largest])
    scores = loading @ centred  # (H*W,)
    return scores.reshape(1, *cube.shape[1:]).astype(np.float32)


def mean_band(cube: np.ndarray) -> np.ndarray:
    """(1, H, W) float32 mean over the bands of (C, H, W)."""
    return cube.mean(axis=0, keepdims=True, dtype=np.float32)


def pseudo_rgb(
    cube: np.ndarray, bands: Sequence[int], ranges: Sequence[tuple[float, float]] | None = None
) -> np.ndarray:
    """(3, H, W) float32 in [0, 255]: three bands, each stretched linearly and clipped.

    cube   : (C, H, W)
    bands  : (3,) indices of red, green and blue
    ranges : (3,) values that become 0 and 255; none: each band's own least and largest value in this image
    """
    colours = []
    for k, band in enumerate(bands):
        values = cube[band].astype(np.float32)
        own_range = (float(values.min()), float(values.max()))
        low, high = ranges[k] if ranges else own_range
        span = high - low
        share = (values - low) / span if span > 0 else np.zeros_like(values)  # a flat band is dark
        colours.append(np.clip(share, 0, 1) * FULL)
    return np.stack(colours)
