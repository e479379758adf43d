"""One chunk of a cube on its way from the raw image to the chunk file: cut, gathered, measured, rendered, encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from hvlabel.cube import chunk_file
from hvlabel.cube.render import Rendering
from hvlabel.readers import RawImage, Strip
from hvlabel.readers.missing import FLOAT32_MAX, filled, ignored, missing_values

TRANSPOSED_BYTES = 64 << 10  # at a time, to stay in the cache
# types that OpenCV can transpose, by size in bytes
MOVED_AS: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.uint16),
    4: np.dtype(np.int32),
    8: np.dtype(np.float64),
}
# Linear RGB is kept at this share of its value: sums of the largest float32 overflow, and a power of two loses nothing
LINEAR_SHARE = np.float32(2.0**-8)


@dataclass(frozen=True)
class Place:
    """Row and column of a chunk in the grid."""

    row: int
    column: int


@dataclass(frozen=True)
class Encoded:
    """What was made of one chunk.

    content     : its bytes in the chunk file
    low, high   : (C,) float64 smallest and largest value of each band; inf and -inf without any
    n_nonfinite : values that are not finite or beyond float32
    n_ignored   : values equal to the file's ignore value
    invalid     : (h, w) bool, pixels without any value; None: there is none
    linear      : (h, w, 3) float32 RGB times LINEAR_SHARE, NaN where a pixel has no value; None: not asked for
    """

    content: bytes
    low: np.ndarray
    high: np.ndarray
    n_nonfinite: int
    n_ignored: int
    invalid: np.ndarray | None
    linear: np.ndarray | None


def cut(strip: Strip, side: int) -> list[tuple[Place, np.ndarray]]:
    """Chunks of a strip, row by row, as views."""
    _, height, width = strip.values.shape
    first = strip.start // side  # exact: strips begin at whole chunks
    first_row, first_column = (first, 0) if strip.axis == 1 else (0, first)
    chunks = []
    for y in range(0, height, side):
        for x in range(0, width, side):
            place = Place(first_row + y // side, first_column + x // side)
            view = strip.values[:, y : y + side, x : x + side]
            chunks.append((place, view))
    return chunks


def encode_chunk(
    view: np.ndarray, side: int, raw: RawImage, rendering: Rendering | None, wavelengths_nm: np.ndarray
) -> Encoded:
    """Everything that is done with one chunk, in one thread. view: (C, h, w), any memory and byte order."""
    n_bands, height, width = view.shape
    if (height, width) == (side, side):
        chunk = _gather(view, raw.dtype)
    else:  # at the edge of the image: a chunk is whole all the same
        chunk = np.zeros((n_bands, side, side), raw.dtype)
        chunk[:, :height, :width] = view
    values = chunk[:, :height, :width]
    low = values.min(axis=(1, 2))  # (C,)
    high = values.max(axis=(1, 2))
    missing = None
    if _may_miss(low, high, raw.ignore_values):
        missing = missing_values(values, raw.ignore_values)
    n_ignored = n_nonfinite = 0
    if missing is not None:
        n_ignored = int(np.count_nonzero(ignored(values, raw.ignore_values)))
        n_nonfinite = int(np.count_nonzero(missing)) - n_ignored
        low, high = _range_without(missing, values)
    linear = None if rendering is None else render_linear(values, missing, rendering, wavelengths_nm)
    return Encoded(
        content=chunk_file.encode(chunk),
        low=low.astype(np.float64),
        high=high.astype(np.float64),
        n_nonfinite=n_nonfinite,
        n_ignored=n_ignored,
        invalid=invalid_pixels(missing),
        linear=linear,
    )


def invalid_pixels(missing: np.ndarray | None) -> np.ndarray | None:
    """(h, w) bool, pixels that miss every band; None if there is none. missing: (C, h, w) bool, None: nothing is."""
    if missing is None:
        return None
    invalid = np.asarray(missing.all(axis=0))
    return invalid if invalid.any() else None


def render_linear(
    values: np.ndarray, missing: np.ndarray | None, rendering: Rendering, wavelengths_nm: np.ndarray
) -> np.ndarray:
    """(h, w, 3) float32 linear RGB times LINEAR_SHARE of a (C, h, w) block; bands without weight are not touched.

    missing : (C, h, w) bool, values that are interpolated along the spectrum, or give nothing to interpolate from;
              None: none is
    """
    used = np.flatnonzero(rendering.uses)
    follow = len(used) == used[-1] - used[0] + 1
    run = slice(used[0], used[-1] + 1) if follow else used  # a slice makes no copy
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is missing
        if missing is not None and missing[run].any():
            # of all bands: a missing one is filled from its neighbours, which may have no weight
            bands = filled(values.astype(np.float32), missing, wavelengths_nm)[run]
        else:
            bands = values[run].astype(np.float32)
    flat = bands.reshape(len(used), -1)  # (used bands, h*w)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is black in the picture
        # one by one: half the time of one product
        channels = [weights @ flat for weights in rendering.weights[:, used] * LINEAR_SHARE]
    return np.stack(channels, axis=-1).reshape(*values.shape[1:], 3)


def _range_without(missing: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C,) float64 smallest and largest of the values that are there; inf and -inf for bands without any."""
    low = values.min(axis=(1, 2), initial=_largest(values.dtype), where=~missing)
    high = values.max(axis=(1, 2), initial=_smallest(values.dtype), where=~missing)
    is_empty = missing.all(axis=(1, 2))
    # numpy's reductions need a start in the type of the values, where infinity does not exist for integers
    low_or_inf = np.where(is_empty, np.inf, low.astype(np.float64))
    high_or_inf = np.where(is_empty, -np.inf, high.astype(np.float64))
    return low_or_inf, high_or_inf


def _may_miss(low: np.ndarray, high: np.ndarray, ignore_values: Sequence[float]) -> bool:
    """Whether a chunk may hold missing values, by the range of its bands: most chunks need no look at every value."""
    if low.dtype.kind == "f":
        limit = np.inf if low.dtype == np.float16 else FLOAT32_MAX
        if not ((low > -limit) & (high < limit)).all():  # a range with NaN in it is NaN
            return True
    return any(bool(((low <= value) & (high >= value)).any()) for value in ignore_values)


def _largest(dtype: np.dtype[Any]) -> Any:
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


def _smallest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _gather(view: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """C-contiguous native copy. Transpositions are OpenCV's, faster than NumPy's."""
    if view.dtype != dtype:
        return np.ascontiguousarray(view, dtype=dtype)
    if view.strides[0] == dtype.itemsize:
        return _gather_pixels(view, dtype)
    if view.strides[1] == dtype.itemsize and view.strides[2] > 0:
        return _gather_columns(view, dtype)
    if view.strides[2] == dtype.itemsize:
        # rows of pixels: NumPy moves them faster as one item each
        row_bytes = view.shape[2] * dtype.itemsize
        row = np.dtype((np.void, row_bytes))
        return np.ascontiguousarray(view.view(row)).view(dtype)
    return np.ascontiguousarray(view)


def _gather_pixels(view: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Of pixels whose bands lie side by side."""
    n_bands, height, width = view.shape
    moved_as = MOVED_AS[dtype.itemsize]
    chunk = np.empty((n_bands, height, width), moved_as)
    n_rows = max(1, TRANSPOSED_BYTES // (width * n_bands * dtype.itemsize))
    for y in range(0, height, n_rows):
        rows = view[:, y : y + n_rows].transpose(1, 2, 0)  # (rows, w, C)
        pixels = np.ascontiguousarray(rows).reshape(-1, n_bands)
        bands = cv2.transpose(pixels.view(moved_as))  # (C, rows*w)
        chunk[:, y : y + n_rows] = bands.reshape(n_bands, -1, width)
    return chunk.view(dtype)


def _gather_columns(view: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Of bands whose columns lie one after another."""
    moved_as = MOVED_AS[dtype.itemsize]
    chunk = np.empty(view.shape, dtype)
    bands = view.transpose(0, 2, 1).view(moved_as)  # (C, w, h)
    for band, target in zip(bands, chunk.view(moved_as), strict=True):
        cv2.transpose(band, target)
    return chunk
