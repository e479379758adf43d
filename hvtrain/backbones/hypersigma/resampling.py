"""Any camera's bands on fixed ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def resampling(wavelengths_nm: Sequence[float], fixed_nm: np.ndarray) -> np.ndarray:
    """(F, C) float32 shares of a camera's bands in the fixed ones, by linear interpolation between neighbours.

    wavelengths_nm : (C,) band centres in any order; equal ones count alike
    fixed_nm       : (F,) rising centres
    A fixed band beyond the camera's first or last one takes that one up to a step of the fixed bands, further out
    nothing: a camera is not made up where it has not looked.
    """
    given_nm = np.asarray(wavelengths_nm, float)
    # distinct centres, so that neighbours are at a distance; which one each band has, and how many have it
    centres_nm, centre_of_band, counts = np.unique(given_nm, return_inverse=True, return_counts=True)
    shares = np.zeros((len(fixed_nm), len(centres_nm)))
    if len(centres_nm) == 1:
        shares[:, 0] = 1
    else:
        rows = np.arange(len(fixed_nm))
        first_above = np.searchsorted(centres_nm, fixed_nm)
        above = first_above.clip(1, len(centres_nm) - 1)  # there is always one below it
        low_nm, high_nm = centres_nm[above - 1], centres_nm[above]
        place = (fixed_nm - low_nm) / (high_nm - low_nm)  # 0 at the lower neighbour, 1 at the upper
        upper = place.clip(0, 1)  # beyond the camera's range its last band alone
        shares[rows, above] = upper
        shares[rows, above - 1] = 1 - upper
    step_nm = fixed_nm[1] - fixed_nm[0]
    below_first = fixed_nm < centres_nm[0] - step_nm
    above_last = fixed_nm > centres_nm[-1] + step_nm
    shares[below_first | above_last] = 0
    # bands of equal centre share what is theirs: rows add up as before
    of_bands = shares[:, centre_of_band] / counts[centre_of_band]
    return of_bands.astype(np.float32)


def resampled(cube: Tensor, wavelengths_nm: Sequence[float], fixed_nm: np.ndarray) -> Tensor:
    """(B, F, H, W) of (B, C, H, W)."""
    shares = torch.from_numpy(resampling(wavelengths_nm, fixed_nm)).to(cube)
    return torch.einsum("fc,bchw->bfhw", shares, cube)
