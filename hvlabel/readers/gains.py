"""Gains and offsets that a file gives for its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvlabel.errors import RawFileError


@dataclass(frozen=True)
class Gains:
    """Either one scale, or (C,) float64 gains and offsets by band, or nothing at all."""

    scale: float | None = None
    gain: np.ndarray | None = None
    offset: np.ndarray | None = None


NO_GAINS = Gains()


def gains_of(path: Path, gain: Sequence[float] | None, offset: Sequence[float] | None, n_bands: int) -> Gains:
    """What a file's gains and offsets come to; RawFileError where they make no sense. path: of the file, for messages.

    gain, offset : one number for all bands or one per band; None: not given
    One positive gain for all bands without any offset is a scale: values may stay as they are stored then.
    """
    gains = _by_band(path, "gains", gain, 1.0, n_bands)
    offsets = _by_band(path, "offsets", offset, 0.0, n_bands)
    if not gains.any():
        raise RawFileError(f"{path}: its gains are all 0; mend the file, or set descriptor.scale")
    # a negative gain would turn the order of the values: not what a scale does
    are_equal = bool((gains == gains[0]).all())
    is_one_gain = are_equal and gains[0] > 0
    if is_one_gain and not offsets.any():
        return Gains(scale=float(gains[0]))
    return Gains(gain=gains, offset=offsets)


def _by_band(path: Path, name: str, given: Sequence[float] | None, neutral: float, n_bands: int) -> np.ndarray:
    """(C,) float64. neutral: what bands have where nothing is given."""
    listed = [neutral] if given is None else given
    values = np.asarray(listed, np.float64).ravel()
    if values.size == 1:  # for all bands
        values = np.full(n_bands, values[0])
    if values.size != n_bands:
        raise RawFileError(f"{path}: {values.size} {name} for {n_bands} bands; they must be equal: mend the file")
    if not np.isfinite(values).all():
        raise RawFileError(f"{path}: its {name} are no finite numbers; mend the file, or set descriptor.scale")
    return values
