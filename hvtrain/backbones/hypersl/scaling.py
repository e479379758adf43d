"""How scenes were scaled in pre-training: each band by itself, over all pixels of the scene."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def scene_spectra(values: np.ndarray, no_data: float) -> tuple[np.ndarray, np.ndarray]:
    """Spectra (n, C) float32 in [0, 1] of the whole pixels of a scene, row by row, and which those are, (H, W) bool.

    values  : (C, H, W)
    no_data : value of what is missing; a pixel that misses a band is left out, but counts in its others' ranges
    A constant band becomes 0.
    """
    # in float64, as the published scaling computes
    known = np.where(values == no_data, np.nan, values.astype(np.float64))
    low = np.nanmin(known, axis=(1, 2), keepdims=True)  # (C, 1, 1)
    high = np.nanmax(known, axis=(1, 2), keepdims=True)
    spread = high - low
    divisor = np.where(spread > 0, spread, 1)
    scaled = (known - low) / divisor
    whole = ~np.isnan(scaled).any(axis=0)  # (H, W)
    spectra = scaled[:, whole].T
    return spectra.astype(np.float32), whole


def bands_to_unit(cube: Tensor) -> Tensor:
    """(B, C, H, W) with each band of each image stretched to [0, 1]; a constant one becomes 0."""
    low = cube.amin(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    high = cube.amax(dim=(2, 3), keepdim=True)
    spread = high - low
    divisor = torch.where(spread > 0, spread, torch.ones_like(spread))
    return (cube - low) / divisor
