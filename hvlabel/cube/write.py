"""Streaming conversion of a raw image into a Zarr group: strips are read, cut into chunks and encoded side by side."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zarr
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from zarr.codecs import BytesCodec, ShardingCodec

from hvlabel.config import CubeSettings
from hvlabel.cube import shard
from hvlabel.cube.plan import chunk_side_px
from hvlabel.cube.render import Rendering, choose_rendering, sample_step, stretch_limits, stretched
from hvlabel.errors import RawFileError
from hvlabel.readers import RawImage, Strip, fit

SHARD_FILE = "cube/c/0/0/0"
PIXEL_BYTES, PICTURE_CHUNK_PX = 12, 512  # of a float32 RGB pixel; side of a chunk of the picture
TRANSPOSED_BYTES = 64 << 10  # at a time, to stay in the cache
# types that OpenCV can transpose, by size in bytes
MOVED_AS: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.uint16),
    4: np.dtype(np.int32),
    8: np.dtype(np.float64),
}


def write_cube(
    path: Path, raw: RawImage, rgb: np.ndarray | None, settings: CubeSettings, threads: int = 1
) -> tuple[dict[str, Any], dict[str, int]]:
    """Write the group at `path` (which must not exist); returns its facts for the attributes, and CRC32Cs of its large files.

    raw     : strips of it are in memory, never the whole, see CubeSettings.memory_mib
    rgb     : (h, w, 3) uint8 native picture of any size, or None: rendered from the bands
    threads : encoding threads besides the one that reads and writes
    RawFileError on a cube without any finite value or with one single value.
    """
    n_bands, height, width = raw.shape
    memory_bytes = settings.memory_mib << 20
    rendering = None if rgb is not None else choose_rendering(np.asarray(raw.wavelengths_nm), settings)
    side = chunk_side_px(n_bands, raw.dtype.itemsize)
    grid = (-(-height // side), -(-width // side))
    _create_arrays(path, raw, side, grid)

    linear = None
    if rendering is not None:
        linear = _Linear(path, height, width, memory_bytes // 4)
    statistics = _Statistics()
    target = path / SHARD_FILE
    target.parent.mkdir(parents=True)
    # one BLAS thread: the products are small, and chunks are worked on side by side already
    with (
        target.open("wb") as file,
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(threads) as pool,
        ThreadPoolExecutor(1) as disk,
    ):
        writer = shard.ShardWriter(file, grid[0] * grid[1])
        synced: Future[None] = disk.submit(os.fdatasync, file.fileno())

        def drain(pending: list[tuple[_Place, Future[_Encoded]]]) -> None:
            for place, future in pending:
                done = future.result()
                writer.write(place.row * grid[1] + place.column, done.content)
                statistics.add(done)
                if linear is not None and done.linear is not None:
                    linear.put(place.row * side, place.column * side, done.linear)

        pending: list[tuple[_Place, Future[_Encoded]]] = []
        for strip in raw.strips(
            side, memory_bytes, path, threads
        ):  # the next strip is read while the last one is encoded
            drain(pending)
            if synced.done():  # the disk works along; publishing will have little left to wait for
                synced.result()
                synced = disk.submit(os.fdatasync, file.fileno())
            pending = [
                (place, pool.submit(_encode, view, side, raw.dtype, rendering)) for place, view in _cut(strip, side)
            ]
        drain(pending)
        writer.close()
        syncs = (synced, disk.submit(os.fdatasync, file.fileno()))

        statistics.require_image(raw.files[0])
        picture = _create_picture(path, height, width)
        if rgb is not None:
            picture[:] = fit(rgb, height, width)
        elif rendering is not None and linear is not None:
            limits = stretch_limits(linear.sample(), settings.stretch_percentiles, joint=rendering.joint)
            list(pool.map(partial(_show, picture, linear, limits), range(0, height, PICTURE_CHUNK_PX)))
            linear.close()
        for sync in syncs:
            sync.result()  # a disk error is told only once
    facts = {
        "wavelengths_nm": list(raw.wavelengths_nm),
        "wavelengths_from": raw.wavelengths_from,
        "scale": raw.scale,
        "unit": raw.unit,
        "min": statistics.minimum,
        "max": statistics.maximum,
        "n_nonfinite": statistics.n_nonfinite,
        "rgb_source": rendering.kind if rendering else "companion",
    }
    return facts, {SHARD_FILE: writer.crc32c}


@dataclass(frozen=True)
class _Place:
    """Row and column of a chunk in the grid."""

    row: int
    column: int


@dataclass(frozen=True)
class _Encoded:
    """One chunk's bytes, smallest and largest finite value, number of non-finite values, and (h, w, 3) float32 RGB."""

    content: bytes
    minimum: float
    maximum: float
    n_nonfinite: int
    linear: np.ndarray | None


def _create_arrays(path: Path, raw: RawImage, side: int, grid: tuple[int, int]) -> None:
    n_bands = raw.shape[0]
    group = zarr.create_group(path)
    group.create_array(
        "cube",
        shape=raw.shape,
        dtype=raw.dtype,
        chunks=(n_bands, grid[0] * side, grid[1] * side),
        serializer=ShardingCodec(
            chunk_shape=(n_bands, side, side), codecs=(BytesCodec(), *shard.codecs(raw.dtype.itemsize))
        ),
        filters=(),
        compressors=(),
        dimension_names=("band", "y", "x"),
        attributes={"coordinates": "wavelength_nm"},
    )
    wavelength = group.create_array(
        "wavelength_nm",
        shape=(n_bands,),
        dtype="f8",
        compressors=shard.codecs(8),
        dimension_names=("band",),
        attributes={"units": "nm"},
    )
    wavelength[:] = np.asarray(raw.wavelengths_nm)


def _create_picture(path: Path, height: int, width: int) -> zarr.Array[Any]:
    return zarr.open_group(path, mode="r+").create_array(
        "rgb",
        shape=(height, width, 3),
        dtype="u1",
        chunks=(min(height, PICTURE_CHUNK_PX), min(width, PICTURE_CHUNK_PX), 3),
        compressors=shard.codecs(1),
        dimension_names=("y", "x", "channel"),
    )


def _show(picture: zarr.Array[Any], linear: _Linear, limits: np.ndarray, start: int) -> None:
    """Stretch one row of chunks into the picture. Threads may call this at once."""
    stop = min(start + PICTURE_CHUNK_PX, picture.shape[0])
    picture[start:stop] = stretched(linear.rows(start, stop), limits)


def _cut(strip: Strip, side: int) -> list[tuple[_Place, np.ndarray]]:
    """Chunks of a strip, row by row, as views."""
    _, height, width = strip.values.shape
    first_row, first_column = (strip.start // side, 0) if strip.axis == 1 else (0, strip.start // side)
    return [
        (_Place(first_row + y // side, first_column + x // side), strip.values[:, y : y + side, x : x + side])
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def _encode(view: np.ndarray, side: int, dtype: np.dtype[Any], rendering: Rendering | None) -> _Encoded:
    """Everything that is done with one chunk, in one thread. view: (C, h, w), any memory and byte order."""
    n_bands, height, width = view.shape
    if (height, width) == (side, side):
        chunk = _gather(view, dtype)
    else:
        chunk = np.zeros((n_bands, side, side), dtype)
        chunk[:, :height, :width] = view
    values = chunk[:, :height, :width]
    minimum, maximum, n_nonfinite = _range(values)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is black in the picture
        linear = None if rendering is None else _render(values, rendering)
    return _Encoded(shard.encode(chunk), minimum, maximum, n_nonfinite, linear)


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


def _range(values: np.ndarray) -> tuple[float, float, int]:
    minimum, maximum = float(values.min()), float(values.max())
    if np.isfinite(minimum) and np.isfinite(maximum):
        return minimum, maximum, 0
    finite = values[np.isfinite(values)]
    n_nonfinite = values.size - finite.size
    return (float(finite.min()), float(finite.max()), n_nonfinite) if finite.size else (np.inf, -np.inf, n_nonfinite)


def _render(values: np.ndarray, rendering: Rendering) -> np.ndarray:
    """(h, w, 3) float32 linear RGB of a (C, h, w) block; unused bands are not touched."""
    used = np.flatnonzero(np.abs(rendering.weights).sum(axis=0))
    bands = values[used[0] : used[-1] + 1] if len(used) == used[-1] - used[0] + 1 else values[used]
    flat = bands.reshape(len(used), -1).astype(np.float32)
    channels = [weights @ flat for weights in rendering.weights[:, used]]  # one by one: half the time of one product
    return np.stack(channels, axis=-1).reshape(*values.shape[1:], 3)


class _Statistics:
    """Running minimum, maximum and count of non-finite values."""

    def __init__(self) -> None:
        self.minimum, self.maximum, self.n_nonfinite = np.inf, -np.inf, 0

    def add(self, part: _Encoded) -> None:
        self.minimum, self.maximum = min(self.minimum, part.minimum), max(self.maximum, part.maximum)
        self.n_nonfinite += part.n_nonfinite

    def require_image(self, path: Path) -> None:
        if self.minimum > self.maximum:
            raise RawFileError(
                f"{path}: the cube holds no finite value (all NaN or infinite), expected an image; leave the file out"
            )
        if self.minimum == self.maximum:
            raise RawFileError(
                f"{path}: every value of the cube is {self.minimum:g}, expected an image; leave the file out"
            )


class _Linear:
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
