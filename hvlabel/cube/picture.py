"""The picture of a cube in the making: linear colours are collected chunk by chunk, then stretched as a whole."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from hvlabel.cube import chunk_file
from hvlabel.cube.render import Rendering, sample_step, stretch_limits, stretched
from hvlabel.errors import RawFileError
from hvlabel.zarr_files import ArrayLayout, GroupFiles

PIXEL_BYTES = 12  # of a float32 RGB pixel
PICTURE_CHUNK_PX = 512  # side of a chunk of the picture
WHOLE_RANGE = (0.0, 100.0)  # percentiles


class Linear:
    """(H, W, 3) float32 RGB collected block by block; in a file of its own where it would take too much memory."""

    def __init__(self, folder: Path, height: int, width: int, memory_bytes: int) -> None:
        self._width = width
        self._step = sample_step(height, width)
        self._sample: list[np.ndarray] = []
        self._path = folder / "linear.tmp"
        # one of both
        fits = height * width * PIXEL_BYTES <= memory_bytes
        self._array = np.empty((height, width, 3), np.float32) if fits else None
        self._file = None if fits else self._path.open("w+b", buffering=0)

    def put(self, y: int, x: int, block: np.ndarray) -> None:
        """A (h, w, 3) block whose first pixel is (y, x)."""
        # the block's part of one regular grid over the whole picture
        first_row, first_column = -y % self._step, -x % self._step
        sampled = block[first_row :: self._step, first_column :: self._step]
        self._sample.append(sampled.reshape(-1, 3))
        if self._array is not None:  # from one thread only: the one that takes chunks in
            height, width = block.shape[:2]
            self._array[y : y + height, x : x + width] = block
        elif self._file is not None:
            for k, row in enumerate(block):
                n_before = (y + k) * self._width + x  # pixels before the row's first one
                os.pwrite(self._file.fileno(), row.tobytes(), n_before * PIXEL_BYTES)

    def sample(self) -> np.ndarray:
        """(N, 3) pixels of a regular grid."""
        return np.concatenate(self._sample)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """(rows, W, 3). Threads may call this at once."""
        if self._array is not None:
            return self._array[start:stop]
        assert self._file is not None  # one of both
        row_bytes = self._width * PIXEL_BYTES
        n_rows = stop - start
        content = os.pread(self._file.fileno(), n_rows * row_bytes, start * row_bytes)
        return np.frombuffer(content, np.float32).reshape(n_rows, self._width, 3)

    def close(self) -> None:
        """Remove the file."""
        self._array = None
        if self._file is not None:
            self._file.close()
            self._path.unlink()

    def restart(self) -> None:
        """Forget what was collected: every pixel will be put again."""
        self._sample.clear()


def layer_layout(name: str, shape: tuple[int, ...], dtype: str) -> ArrayLayout:
    """An array of the image's size in the group of a cube. shape: (H, W) or (H, W, channels)."""
    height, width, *channels = shape
    return ArrayLayout(
        name,
        shape,
        np.dtype(dtype),
        chunk_shape=(min(height, PICTURE_CHUNK_PX), min(width, PICTURE_CHUNK_PX), *channels),
        codecs=chunk_file.codecs(1),
        dimension_names=("y", "x", "channel")[: len(shape)],
    )


def write_layer(group: GroupFiles, name: str, values: np.ndarray) -> None:
    """A whole array of the image's size. values: (H, W) bool or (H, W, channels) uint8."""
    layout = layer_layout(name, values.shape, values.dtype.name)
    group.add(layout)
    group.write_rows(layout, 0, values, chunk_file.encode)


def stretch_into(
    group: GroupFiles,
    layout: ArrayLayout,
    linear: Linear,
    rendering: Rendering,
    percentiles: tuple[float, float],
    pool: ThreadPoolExecutor,
) -> bool:
    """Fill a picture; returns whether it has any contrast. Where percentiles are equal, its whole range is shown."""
    limits = stretch_limits(linear.sample(), percentiles, joint=rendering.joint)
    if (limits[0] == limits[1]).all():  # a dark image with one bright object
        limits = stretch_limits(linear.sample(), WHOLE_RANGE, joint=rendering.joint)
    starts = range(0, layout.shape[0], PICTURE_CHUNK_PX)
    colours = list(pool.map(partial(_show, group, layout, linear, limits), starts))
    return len(set(colours)) > 1 or colours[0] is None


def flat_picture(path: Path, what: str) -> RawFileError:
    """The error of a picture of one single colour: it would give an empty label that says nothing is wrong."""
    return RawFileError(
        f"{path}: {what} has no contrast, all its pixels have one colour; "
        "choose other bands by cube.rgb, drop or restore the companion, or leave the file out"
    )


def _show(
    group: GroupFiles, layout: ArrayLayout, linear: Linear, limits: np.ndarray, start: int
) -> tuple[int, ...] | None:
    """Stretch one row of chunks into the picture; the colour of its pixels if they have only one, else None.

    Threads may call this at once: each writes chunks of its own.
    """
    stop = min(start + PICTURE_CHUNK_PX, layout.shape[0])
    shown = stretched(linear.rows(start, stop), limits)
    group.write_rows(layout, start, shown, chunk_file.encode)
    first = shown[0, 0]
    has_contrast = bool((shown != first).any())
    return None if has_contrast else tuple(int(v) for v in first)
