"""One chunk of a cube on its way from the raw image to the shard file: cut, gathered, encoded, measured, rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from hvlabel.cube import shard
from hvlabel.cube.render import Rendering
from hvlabel.errors import RawFileError
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
# Linear RGB is kept at this share of its value: sums of the largest float32 would overflow, and a power of two loses nothing
LINEAR_SHARE = np.float32(2.0**-8)


@dataclass(frozen=True)
class Place:
    """Row and column of a chunk in the grid."""

    row: int
    column: int


@dataclass(frozen=True)
class Encoded:
    """What was made of one chunk.

    content     : its bytes in the shard file
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


class Statistics:
    """Range of every band and counts of what is missing, over all chunks."""

    def __init__(self, n_bands: int) -> None:
        self.low, self.high = np.full(n_bands, np.inf), np.full(n_bands, -np.inf)
        self.n_nonfinite = self.n_ignored = 0

    def add(self, part: Encoded) -> None:
        """Take in one chunk."""
        self.low, self.high = np.minimum(self.low, part.low), np.maximum(self.high, part.high)
        self.n_nonfinite += part.n_nonfinite
        self.n_ignored += part.n_ignored

    @property
    def n_missing(self) -> int:
        """Values that are no measurement."""
        return self.n_nonfinite + self.n_ignored

    @property
    def dead(self) -> np.ndarray:
        """(C,) bool, bands that hold no value, or the same one everywhere: they tell nothing about the image."""
        return ~(self.high > self.low)

    def require_image(self, path: object) -> None:
        """RawFileError unless some band has two values. path: of the raw file, for the message."""
        if not (self.low <= self.high).any():
            raise RawFileError(
                f"{path}: the cube holds no finite value (all NaN, infinite, no data or beyond float32), expected an image; leave the file out"
            )
        if self.dead.all():
            low, high = self.low.min(), self.high.max()
            values = (
                f"every value of the cube is {low:g}" if low == high else "each band has one single value throughout"
            )
            raise RawFileError(f"{path}: {values}, expected an image; leave the file out")


def cut(strip: Strip, side: int) -> list[tuple[Place, np.ndarray]]:
    """Chunks of a strip, row by row, as views."""
    _, height, width = strip.values.shape
    first_row, first_column = (strip.start // side, 0) if strip.axis == 1 else (0, strip.start // side)
    return [
        (Place(first_row + y // side, first_column + x // side), strip.values[:, y : y + side, x : x + side])
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def encode_chunk(
    view: np.ndarray, side: int, raw: RawImage, rendering: Rendering | None, wavelengths_nm: np.ndarray
) -> Encoded:
    """Everything that is done with one chunk, in one thread. view: (C, h, w), any memory and byte order."""
    n_bands, height, width = view.shape
    if (height, width) == (side, side):
        chunk = _gather(view, raw.dtype)
    else:
        chunk = np.zeros((n_bands, side, side), raw.dtype)
        chunk[:, :height, :width] = view
    values = chunk[:, :height, :width]
    low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
    missing = None
    if _may_miss(low, high, raw.ignore_values):
        missing = missing_values(values, raw.ignore_values)
    n_ignored = n_nonfinite = 0
    invalid = None
    if missing is not None:
        n_ignored = int(np.count_nonzero(ignored(values, raw.ignore_values)))
        n_nonfinite = int(np.count_nonzero(missing)) - n_ignored
        low = values.min(axis=(1, 2), initial=_largest(values.dtype), where=~missing)
        high = values.max(axis=(1, 2), initial=_smallest(values.dtype), where=~missing)
        empty = missing.all(axis=(1, 2))
        low, high = np.where(empty, np.inf, low.astype(np.float64)), np.where(empty, -np.inf, high.astype(np.float64))
        invalid = np.asarray(missing.all(axis=0))
    linear = None if rendering is None else render_linear(values, missing, rendering, wavelengths_nm)
    return Encoded(
        shard.encode(chunk),
        low.astype(np.float64),
        high.astype(np.float64),
        n_nonfinite,
        n_ignored,
        invalid if invalid is not None and invalid.any() else None,
        linear,
    )


def render_linear(
    values: np.ndarray, missing: np.ndarray | None, rendering: Rendering, wavelengths_nm: np.ndarray
) -> np.ndarray:
    """(h, w, 3) float32 linear RGB times LINEAR_SHARE of a (C, h, w) block; bands without weight are not touched.

    missing : (C, h, w) bool, values that are interpolated along the spectrum or give nothing to interpolate from; None: none is
    """
    used = np.flatnonzero(np.abs(rendering.weights).sum(axis=0))
    run = slice(used[0], used[-1] + 1) if len(used) == used[-1] - used[0] + 1 else used
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is missing
        if missing is not None and missing[run].any():
            bands = filled(values.astype(np.float32), missing, wavelengths_nm)[run]
        else:
            bands = values[run].astype(np.float32)
    flat = bands.reshape(len(used), -1)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is black in the picture
        # one by one: half the time of one product
        channels = [weights @ flat for weights in rendering.weights[:, used] * LINEAR_SHARE]
    return np.stack(channels, axis=-1).reshape(*values.shape[1:], 3)


def _may_miss(low: np.ndarray, high: np.ndarray, ignore_values: Sequence[float]) -> bool:
    """Whether a chunk may hold missing values, by the range of its bands."""
    if low.dtype.kind == "f":
        limit = np.inf if low.dtype == np.float16 else FLOAT32_MAX
        if not ((low > -limit) & (high < limit)).all():
            return True
    return any(bool(((low <= value) & (high >= value)).any()) for value in ignore_values)


def _largest(dtype: np.dtype[Any]) -> Any:
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


def _smallest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _gather(view: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """C-contiguous native copy. Transpositions are OpenCV's, faster than NumPy's."""
    n_bands, height, width = view.shape
    if view.dtype != dtype:
        return np.ascontiguousarray(view, dtype=dtype)
    same_size = MOVED_AS[dtype.itemsize]
    if view.strides[0] == dtype.itemsize:  # interleaved pixels
        chunk = np.empty((n_bands, height, width), same_size)
        step = max(1, TRANSPOSED_BYTES // (width * n_bands * dtype.itemsize))
        for y in range(0, height, step):
            pixels = np.ascontiguousarray(view[:, y : y + step].transpose(1, 2, 0)).reshape(-1, n_bands)
            chunk[:, y : y + step] = cv2.transpose(pixels.view(same_size)).reshape(n_bands, -1, width)
        return chunk.view(dtype)
    if view.strides[1] == dtype.itemsize and view.strides[2] > 0:  # columns before rows
        chunk = np.empty((n_bands, height, width), dtype)
        for band, target in zip(view.transpose(0, 2, 1).view(same_size), chunk.view(same_size), strict=True):
            cv2.transpose(band, target)
        return chunk
    if view.strides[2] == dtype.itemsize:  # rows of pixels: NumPy moves them faster as one item each
        return np.ascontiguousarray(view.view(np.dtype((np.void, width * dtype.itemsize)))).view(dtype)
    return np.ascontiguousarray(view)
