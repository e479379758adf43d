"""Mean spectra of masks and their deviation, from all pixels of the cube."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from hvlabel.masks import Rle, decode
from hvlabel.viewer.packed import packed

LEVELS = 65_535
BLOCK_PX = 1 << 16  # summed at a time, in float64


class Spectra(NamedTuple):
    """Of N masks. mean, deviation: (N, C) float64, in the cube's unit; nan where a mask has no valid pixel."""

    mean: np.ndarray
    deviation: np.ndarray

    def as_json(self) -> dict[str, Any]:
        """As 16 bit between their least and their largest value; what is not known is left out by `has`."""
        known = np.isfinite(self.mean).all(axis=1)
        low = float(self.mean[known].min(initial=np.inf)) if known.any() else 0.0
        high = float(self.mean[known].max(initial=-np.inf)) if known.any() else 1.0
        widest = float(self.deviation[known].max(initial=0.0))
        tiny = float(np.finfo(np.float32).tiny)  # where all masks have one flat spectrum
        step = max(high - low, widest, tiny) / LEVELS
        above_low = np.nan_to_num(self.mean, nan=low) - low
        mean = np.round(above_low / step).astype(np.uint16)
        deviation = np.round(np.nan_to_num(self.deviation) / step).astype(np.uint16)
        return {
            "low": low,
            "step": step,
            "has": known.tolist(),
            "mean": packed(mean)._asdict(),
            "deviation": packed(deviation)._asdict(),
        }


def mask_spectra(values: np.ndarray, rles: Sequence[Rle], valid: np.ndarray | None) -> Spectra:
    """The spectra of masks.

    values : (C, H, W) float32
    valid  : (H, W) bool, pixels that count; None: all
    """
    n_bands = len(values)
    members = _members(rles, valid, values.shape[1:])  # (N, P)
    flat = values.reshape(n_bands, -1)  # (C, P)
    sums = np.zeros((len(rles), n_bands))
    squares = np.zeros_like(sums)
    # about the image's mean, so that the difference of squares keeps its digits
    centre = flat.mean(axis=1, dtype=np.float64)
    for start in range(0, flat.shape[1], BLOCK_PX):
        of_pixels = flat[:, start : start + BLOCK_PX].T
        block = np.ascontiguousarray(of_pixels, np.float64) - centre  # (n, C)
        of_block = members[:, start : start + BLOCK_PX]
        sums += of_block @ block
        squares += of_block @ block**2
    n_px = np.asarray(members.sum(axis=1), np.float64).reshape(-1, 1)
    n_px[n_px == 0] = np.nan  # without a valid pixel
    mean = sums / n_px
    # rounding may leave a constant mask with less than nothing
    variance = np.clip(squares / n_px - mean**2, 0, None)
    return Spectra(mean + centre, np.sqrt(variance))


def _members(rles: Sequence[Rle], valid: np.ndarray | None, size: tuple[int, ...]) -> sparse.csr_array:
    """(N, P) ones where a pixel belongs to a mask. size: height and width, px."""
    pixels = []
    for rle in rles:
        mask = decode(rle)
        inside = mask if valid is None else mask & valid
        pixels.append(np.flatnonzero(inside))
    ends = np.cumsum([0, *(len(of_mask) for of_mask in pixels)])
    columns = np.concatenate(pixels) if pixels else np.zeros(0, int)
    shape = (len(rles), size[0] * size[1])
    ones = np.ones(len(columns))
    return sparse.csr_array((ones, columns, ends), shape=shape)  # row k: columns[ends[k] : ends[k + 1]]
