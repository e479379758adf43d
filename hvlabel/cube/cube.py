"""Lazy reading of a cube."""

from __future__ import annotations

import json
import operator
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hvlabel.cube import shard
from hvlabel.cube.write import SHARD_FILE
from hvlabel.errors import CubeError
from hvlabel.readers.missing import filled, ignored, missing_values

ALL = slice(None)
MAX_THREADS, WORTH_THREADS_BYTES = 4, 1 << 20


@dataclass(frozen=True)
class Cube:
    """One open cube; no file stays open, so that it may be passed to other processes and used across a fork.

    shape          : (C, H, W), bands in file order
    dtype          : of the stored values
    chunk_side_px  : a chunk holds all bands of a square of this side
    wavelengths_nm : (C,) float64 in file order
    attributes     : everything else the file knows about itself (docs/FORMATS.md)
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    chunk_side_px: int
    wavelengths_nm: np.ndarray
    attributes: dict[str, Any]

    @property
    def image_id(self) -> str:
        """Name of the image: the file name without .zarr."""
        return self.path.stem

    @property
    def height_px(self) -> int:
        """Rows."""
        return self.shape[1]

    @property
    def width_px(self) -> int:
        """Columns."""
        return self.shape[2]

    @cached_property
    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return self._layer("rgb")

    def read(
        self,
        rows: slice | int = ALL,
        columns: slice | int = ALL,
        bands: slice | int = ALL,
        threads: int | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """(c, h, w) stored values of a box: slices of step 1, or integers, which keep their axis. CubeError on a damaged chunk
        and for an integer out of range.

        Only chunks that the box touches are read; each is checked. threads: that decode side by side, none: one per core
        (up to MAX_THREADS); give 1 in workers that already run side by side. out: filled and returned instead of a new
        array, (c, h, w), in its type.
        """
        (b0, b1), (y0, y1), (x0, x1) = (
            _range(wanted, n, self.path) for wanted, n in zip((bands, rows, columns), self.shape, strict=True)
        )
        side = self.chunk_side_px
        shape = (max(b1 - b0, 0), max(y1 - y0, 0), max(x1 - x0, 0))
        if out is None:
            out = np.empty(shape, self.dtype)
        elif out.shape != shape:
            raise ValueError(f"out has shape {out.shape}, the box {shape}")
        if not out.size:
            return out
        grid = (slice(y0 // side, (y1 - 1) // side + 1), slice(x0 // side, (x1 - 1) // side + 1))
        places = list(product(*(range(s.start, s.stop) for s in grid)))
        todo = iter(places)  # shared: whoever is done takes the next chunk

        def read_chunks(memory: tuple[np.ndarray, np.ndarray]) -> None:
            stored, chunk = memory
            with (self.path / SHARD_FILE).open("rb", buffering=0) as file:
                for row, column in todo:
                    top, bottom = max(y0, row * side), min(y1, (row + 1) * side)
                    left, right = max(x0, column * side), min(x1, (column + 1) * side)
                    offset, n_bytes = self._index[row, column].tolist()
                    n_read = os.preadv(file.fileno(), [stored.data[:n_bytes]], offset)
                    shard.decode(self.path, stored[:n_read], chunk)
                    out[:, top - y0 : bottom - y0, left - x0 : right - x0] = chunk[
                        b0:b1, top - row * side : bottom - row * side, left - column * side : right - column * side
                    ]

        workers = min(len(places), threads or min(MAX_THREADS, len(os.sched_getaffinity(0))))
        if out.nbytes < WORTH_THREADS_BYTES:
            workers = 1
        longest = int(self._index[grid][..., 1].max())
        if longest == shard.ABSENT:
            raise CubeError(f"{self.path}: a chunk is missing; delete the cube and run again to convert it anew")
        # allocated here: in a thread of its own all memory would be fresh, and zeroed first
        memory = [
            (np.empty(longest, np.uint8), np.empty((self.shape[0], side, side), self.dtype)) for _ in range(workers)
        ]
        if workers == 1:
            read_chunks(memory[0])
        else:
            with ThreadPoolExecutor(workers) as pool:  # no pool is kept: it would not survive a fork
                list(pool.map(read_chunks, memory))
        return out

    def values(self, rows: slice | int = ALL, columns: slice | int = ALL, bands: slice | int = ALL) -> np.ndarray:
        """(c, h, w) float32 physical values (stored value times scale), all finite.

        Missing ones are interpolated from the pixel's other bands of the box; pixels without any have the cube's minimum.
        """
        stored = self.read(rows, columns, bands)
        missing = missing_values(stored, self.ignore_values) if self._has_missing else None
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is missing
            if stored.dtype.itemsize > 4:
                values = (stored * self.scale).astype(np.float32)
            else:
                values = stored.astype(np.float32) * np.float32(self.scale)
        if missing is None:
            return values
        (b0, b1) = _range(bands, self.shape[0], self.path)
        unusable = missing.copy()
        unusable[self._is_dead[b0:b1]] = True  # a stuck band tells nothing about its neighbours
        whole = np.where(missing, filled(values, unusable, self.wavelengths_nm[b0:b1]), values)
        return np.where(np.isfinite(whole), whole, np.float32(self.attributes["min"] * self.scale))

    @property
    def scale(self) -> float:
        """Physical value of a stored value of 1."""
        return float(self.attributes["scale"])

    @property
    def ignore_values(self) -> tuple[float, ...]:
        """Stored values that stand for no data."""
        return tuple(self.attributes.get("ignore_values", ()))

    @cached_property
    def _is_dead(self) -> np.ndarray:
        """(C,) bool."""
        return np.isin(np.arange(self.shape[0]), self.attributes.get("dead_bands", ()))

    @cached_property
    def live_bands(self) -> np.ndarray:
        """Indices of the bands that tell something about the image: not missing throughout, not one single value."""
        return np.flatnonzero(~self._is_dead)

    def live_values(self) -> np.ndarray:
        """(L, H, W) float32 physical values of the live bands, in file order."""
        values = self.values()
        return values if len(self.live_bands) == len(values) else values[self.live_bands]

    @property
    def live_wavelengths_nm(self) -> np.ndarray:
        """(L,) float64 centres of the live bands, in file order."""
        return self.wavelengths_nm[self.live_bands]

    @cached_property
    def valid(self) -> np.ndarray | None:
        """(H, W) bool, pixels that hold some value; None: all do."""
        return np.asarray(self._layer("valid")) if self.attributes.get("n_invalid_px") else None

    def plain(self, stored: np.ndarray) -> np.ndarray:
        """A box of all bands, as `read` gives it, with whatever is no measurement replaced in place by the cube's minimum.

        Not finite values stay: a network's input has its own rule for them.
        """
        least = self.attributes["min"]
        if self.ignore_values and self.attributes["n_ignored"]:
            stored[ignored(stored, self.ignore_values)] = least
        if self._is_dead.any():
            stored[self._is_dead] = least
        return stored

    @property
    def _has_missing(self) -> bool:
        return bool(self.attributes["n_nonfinite"] or self.attributes.get("n_ignored"))

    def _layer(self, name: str) -> np.ndarray:
        """An array of the image's size."""
        try:
            return np.asarray(zarr.open_array(self.path / name, mode="r")[:])
        except Exception as error:  # the codec pipeline raises many kinds; each means a damaged chunk
            raise CubeError(
                f"{self.path}: its array {name} is damaged ({str(error)[:80]}); delete the cube and run again to convert it anew"
            ) from error

    @cached_property
    def _index(self) -> np.ndarray:
        grid = [-(-n // self.chunk_side_px) for n in self.shape[1:]]
        return shard.read_index(self.path / SHARD_FILE, grid[0] * grid[1]).reshape(*grid, 2)


def _range(wanted: slice | int, size: int, path: Path) -> tuple[int, int]:
    """[start, stop) on an axis of this size; negative numbers count from the end."""
    if not isinstance(wanted, slice):
        index = operator.index(wanted)
        if not -size <= index < size:
            raise CubeError(f"{path}: index {index} on an axis of {size}; count from 0")
        index %= size
        return index, index + 1
    start, stop, step = wanted.indices(size)
    if step != 1:
        raise CubeError(f"{path}: a slice of step {step}; read the range and take every {step}th value of it")
    return start, stop


def open_cube(path: Path) -> Cube:
    """The cube at `path`; CubeError if it is missing, unfinished or something else."""
    if not path.is_dir():
        raise CubeError(f"{path}: no such cube; make it with `hvlabel convert`")
    try:
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
        array = json.loads((path / "cube" / "zarr.json").read_bytes())
        chunk = array["codecs"][0]["configuration"]["chunk_shape"]
        n_bands, height, width = array["shape"]
        attributes["receipt"]  # written last
        return Cube(
            path,
            (n_bands, height, width),
            np.dtype(array["data_type"]),
            chunk[1],
            np.asarray(attributes["wavelengths_nm"], dtype=np.float64),
            attributes,
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CubeError(
            f"{path}: not a finished cube of this project ({type(error).__name__}: {str(error)[:80]}); delete it and run again, or make it with `hvlabel convert`"
        ) from error
