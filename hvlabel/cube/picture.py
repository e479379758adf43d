"""The picture of a cube while it is converted: linear colours are collected chunk by chunk, then stretched as a whole."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hvlabel.cube import shard
from hvlabel.cube.render import Rendering, sample_step, stretch_limits, stretched
from hvlabel.errors import RawFileError

PIXEL_BYTES, PICTURE_CHUNK_PX = 12, 512  # of a float32 RGB pixel; side of a chunk of the picture


class Linear:
    """(H, W, 3) float32 RGB collected block by block; in a file of its own where it would take too much memory."""

    def __init__(self, folder: Path, height: int, width: int, memory_bytes: int) -> None:
        self._width, self._step = width, sample_step(height, width)
        self._sample: list[np.ndarray] = []
        self._path = folder / "linear.tmp"
        self._array = np.empty((height, width, 3), np.float32) if height * width * PIXEL_BYTES <= memory_bytes else None
        self._file = None if self._array is not None else self._path.open("w+b", buffering=0)

    def put(self, y: int, x: int, block: np.ndarray) -> None:
        """A (h, w, 3) block whose first pixel is (y, x)."""
        self._sample.append(block[-y % self._step :: self._step, -x % self._step :: self._step].reshape(-1, 3))
        if self._array is not None:
            self._array[y : y + block.shape[0], x : x + block.shape[1]] = block
        elif self._file is not None:
            for k, row in enumerate(block):
                os.pwrite(self._file.fileno(), row.tobytes(), ((y + k) * self._width + x) * PIXEL_BYTES)

    def sample(self) -> np.ndarray:
        """(N, 3) pixels of a regular grid."""
        return np.concatenate(self._sample)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """(rows, W, 3)."""
        if self._array is not None:
            return self._array[start:stop]
        assert self._file is not None  # one of both
        size = self._width * PIXEL_BYTES
        return np.frombuffer(os.pread(self._file.fileno(), (stop - start) * size, start * size), np.float32).reshape(
            stop - start, self._width, 3
        )

    def close(self) -> None:
        """Remove the file."""
        self._array = None
        if self._file is not None:
            self._file.close()
            self._path.unlink()

    def restart(self) -> None:
        """Forget what was collected."""
        self._sample.clear()


def create_layer(path: Path, name: str, shape: tuple[int, ...], dtype: str) -> zarr.Array[Any]:
    """An array of the image's size in the group of a cube. shape: (H, W) or (H, W, channels)."""
    return zarr.open_group(path, mode="r+").create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(min(shape[0], PICTURE_CHUNK_PX), min(shape[1], PICTURE_CHUNK_PX), *shape[2:]),
        compressors=shard.codecs(1),
        dimension_names=("y", "x", "channel")[: len(shape)],
    )


def stretch_into(
    picture: zarr.Array[Any],
    linear: Linear,
    rendering: Rendering,
    percentiles: tuple[float, float],
    pool: ThreadPoolExecutor,
) -> bool:
    """Fill a picture; where the percentiles are one value, its whole range is shown instead. Whether it has any contrast."""
    limits = stretch_limits(linear.sample(), percentiles, joint=rendering.joint)
    if (limits[0] == limits[1]).all():
        limits = stretch_limits(linear.sample(), (0.0, 100.0), joint=rendering.joint)
    first_pixels = list(pool.map(partial(_show, picture, linear, limits), range(0, picture.shape[0], PICTURE_CHUNK_PX)))
    return len(set(first_pixels)) > 1 or first_pixels[0] is None


def flat_picture(path: Path, what: str) -> RawFileError:
    """The error of a picture of one single colour: it would give an empty label that says nothing is wrong."""
    return RawFileError(
        f"{path}: {what} has no contrast, all its pixels have one colour; "
        "choose other bands by cube.rgb, drop or restore the companion, or leave the file out"
    )


def _show(picture: zarr.Array[Any], linear: Linear, limits: np.ndarray, start: int) -> tuple[int, ...] | None:
    """Stretch one row of chunks into the picture; its first pixel if all others have that colour, else None. Threads may call
    this at once."""
    stop = min(start + PICTURE_CHUNK_PX, picture.shape[0])
    shown = stretched(linear.rows(start, stop), limits)
    picture[start:stop] = shown
    first = shown[0, 0]
    return None if (shown != first).any() else tuple(int(v) for v in first)
