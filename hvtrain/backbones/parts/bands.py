"""Which bands of a camera a network can read."""

from __future__ import annotations

from collections.abc import Sequence

from hvlabel.errors import BandError

RangeNm = tuple[float, float]


def readable(wavelengths_nm: Sequence[float], range_nm: RangeNm) -> list[int]:
    """Channels whose band centres lie in a range, ends included; BandError if none does."""
    low, high = range_nm
    inside = [k for k, nm in enumerate(wavelengths_nm) if low <= nm <= high]
    if not inside:
        first, last = min(wavelengths_nm), max(wavelengths_nm)
        raise BandError(f"no band lies in {low:g}-{high:g} nm (bands: {first:g}-{last:g} nm)")
    return inside


def readable_of(n_channels: int, wavelengths_nm: Sequence[float], range_nm: RangeNm) -> list[int]:
    """As `readable`, of an image with its channels; BandError too if they are not as many as the bands."""
    if n_channels != len(wavelengths_nm):
        raise BandError(f"{len(wavelengths_nm)} wavelengths for {n_channels} channels; they must be equal")
    return readable(wavelengths_nm, range_nm)
