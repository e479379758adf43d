"""Values that are no measurement, and what stands in for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FLOAT32_MAX = float(np.finfo(np.float32).max)


def missing_values(values: np.ndarray, ignore_values: Sequence[float]) -> np.ndarray | None:
    """bool of the same shape, or None if nothing is missing.

    Missing is what equals one of ignore_values, is not finite, or is the largest float32 of either sign, which GIS
    tools write where there is no data.
    """
    missing = ignored(values, ignore_values) if len(ignore_values) else None
    if values.dtype.kind == "f":
        is_unreal = _unreal(values)
        missing = is_unreal if missing is None else missing | is_unreal
    return missing if missing is not None and missing.any() else None


def ignored(values: np.ndarray, ignore_values: Sequence[float]) -> np.ndarray:
    """bool of the same shape: what equals one of some values, which the type of the array holds."""
    equal = np.zeros(values.shape, bool)
    for value in ignore_values:
        equal |= values == values.dtype.type(value)  # in the array's own type: 0.1 in float32 is not 0.1 in float64
    return equal


def filled(values: np.ndarray, missing: np.ndarray, wavelengths_nm: np.ndarray) -> np.ndarray:
    """Missing values interpolated along the spectrum of their own pixel; beyond its ends the nearest value counts.

    values         : (C, h, w) float32
    missing        : (C, h, w) bool
    wavelengths_nm : (C,) band centres in any order
    Pixels without any value are NaN throughout.
    """
    order = np.argsort(wavelengths_nm, kind="stable")
    nm = wavelengths_nm[order].astype(np.float32)
    sorted_values = values[order]  # (C, h, w), by rising wavelength
    is_missing = missing[order]
    below, above, is_empty = _neighbours(is_missing)
    gap_nm = nm[above] - nm[below]  # (C, h, w); 0 where both are the same band
    share = (nm[:, None, None] - nm[below]) / np.where(gap_nm > 0, gap_nm, np.float32(1))
    low = np.take_along_axis(sorted_values, below, axis=0)
    high = np.take_along_axis(sorted_values, above, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        between = low + (high - low) * share.clip(0, 1)
    complete = np.where(is_missing, between, sorted_values)
    complete[is_empty] = np.nan
    result = np.empty_like(values)
    result[order] = complete
    return result


def _unreal(values: np.ndarray) -> np.ndarray:
    """bool of the same shape: floats that float32 does not hold."""
    if values.dtype == np.float16:
        return ~np.isfinite(values)  # half floats end long before float32 does
    return ~(np.abs(values) < FLOAT32_MAX)  # so that NaN, which is less than nothing, is one of them


def _neighbours(is_missing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest bands with a value at or before each band, and at or after it, (C, h, w); pixels without any, (h, w).

    is_missing : (C, h, w) bool
    Beyond the first and the last value both are that value's band.
    """
    n_bands = len(is_missing)
    position = np.arange(n_bands)[:, None, None]
    # the last band with a value so far, walking up; -1: none yet
    below = np.maximum.accumulate(np.where(is_missing, -1, position), axis=0)
    # the same, walking down; n_bands: none yet
    above = np.minimum.accumulate(np.where(is_missing, n_bands, position)[::-1], axis=0)[::-1]
    is_empty = (below < 0) & (above == n_bands)
    # clipped: of an empty pixel neither is a band, and its values are overwritten
    lower = np.where(below < 0, above, below).clip(0, n_bands - 1)
    upper = np.where(above == n_bands, below, above).clip(0, n_bands - 1)
    return lower, upper, is_empty
