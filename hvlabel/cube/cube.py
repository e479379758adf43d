"""Lazy reading of a cube."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.cube import chunk_file
from hvlabel.cube.chunk_file import CHUNK_FILE
from hvlabel.errors import CubeError
from hvlabel.group_file import array_metadata, attributes_of
from hvlabel.readers.missing import filled, ignored, missing_values
from hvlabel.zarr_files import read_layer, require_layer

ALL = slice(None)
MAX_THREADS = 4  # of one read: more wait for memory
WORTH_THREADS_BYTES = 1 << 20

Range = tuple[int, int]  # [start, stop)


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
        return self._layer("rgb", (self.height_px, self.width_px, 3), "uint8")

    def read(
        self,
        rows: slice | int = ALL,
        columns: slice | int = ALL,
        bands: slice | int = ALL,
        threads: int | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """(c, h, w) stored values of a box; only chunks that it touches are read, and each of them is checked.

        rows, columns, bands : slices of step 1, or integers, which keep their axis
        threads              : that decode side by side; None: one per core (up to MAX_THREADS). Give 1 in workers that
                               already run side by side
        out                  : filled and returned instead of a new array, (c, h, w), in its type
        CubeError on a damaged chunk and for an integer out of range.
        """
        n_bands, height, width = self.shape
        band_range = _range(bands, n_bands, self.path)
        row_range = _range(rows, height, self.path)
        column_range = _range(columns, width, self.path)
        box = (band_range, row_range, column_range)
        shape = tuple(max(stop - start, 0) for start, stop in box)
        if out is None:  # loaders give the memory of an earlier batch
            out = np.empty(shape, self.dtype)
        elif out.shape != shape:
            raise ValueError(f"out has shape {out.shape}, the box {shape}")
        if out.size:
            self._fill(out, box, threads)
        return out

    def values(self, rows: slice | int = ALL, columns: slice | int = ALL, bands: slice | int = ALL) -> np.ndarray:
        """(c, h, w) float32 physical values (stored value times scale), all finite.

        Missing ones are interpolated from the pixel's other bands of the box; pixels without any have the cube's
        minimum.
        """
        stored = self.read(rows, columns, bands)
        missing = missing_values(stored, self.ignore_values) if self._has_missing else None
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is missing
            if stored.dtype.itemsize > 4:
                values = (stored * self.scale).astype(np.float32)  # large integers lose their last digits first
            else:
                values = stored.astype(np.float32) * np.float32(self.scale)
        if missing is None:
            return values
        first_band, last_band = _range(bands, self.shape[0], self.path)
        is_unusable = missing.copy()
        is_unusable[self._is_dead[first_band:last_band]] = True  # a stuck band tells nothing about its neighbours
        neighbours = filled(values, is_unusable, self.wavelengths_nm[first_band:last_band])
        whole = np.where(missing, neighbours, values)
        least = np.float32(self.attributes["min"] * self.scale)
        return np.where(np.isfinite(whole), whole, least)

    @property
    def scale(self) -> float:
        """Physical value of a stored value of 1."""
        return float(self.attributes["scale"])

    @property
    def ignore_values(self) -> tuple[float, ...]:
        """Stored values that stand for no data."""
        return tuple(self.attributes.get("ignore_values", ()))

    @cached_property
    def live_bands(self) -> np.ndarray:
        """Indices of the bands that tell something about the image: not missing throughout, not one single value."""
        return np.flatnonzero(~self._is_dead)

    def live_values(self) -> np.ndarray:
        """(L, H, W) float32 physical values of the live bands, in file order."""
        values = self.values()
        all_live = len(self.live_bands) == len(values)
        return values if all_live else values[self.live_bands]  # no copy of what is whole

    @property
    def live_wavelengths_nm(self) -> np.ndarray:
        """(L,) float64 centres of the live bands, in file order."""
        return self.wavelengths_nm[self.live_bands]

    @cached_property
    def valid(self) -> np.ndarray | None:
        """(H, W) bool, pixels that hold some value; None: all do."""
        if not self.attributes.get("n_invalid_px"):
            return None
        return self._layer("valid", (self.height_px, self.width_px), "bool")

    def plain(self, stored: np.ndarray) -> np.ndarray:
        """A box of all bands with whatever is no measurement replaced in place by the cube's minimum.

        stored : (C, h, w), as `read` gives it
        Not finite values stay: a network's input has its own rule for them.
        """
        least = self.attributes["min"]
        if self.ignore_values and self.attributes["n_ignored"]:
            stored[ignored(stored, self.ignore_values)] = least
        if self._is_dead.any():
            stored[self._is_dead] = least
        return stored

    @cached_property
    def _is_dead(self) -> np.ndarray:
        """(C,) bool."""
        return np.isin(np.arange(self.shape[0]), self.attributes.get("dead_bands", ()))

    @property
    def _has_missing(self) -> bool:
        return bool(self.attributes["n_nonfinite"] or self.attributes.get("n_ignored"))

    def _fill(self, out: np.ndarray, box: tuple[Range, Range, Range], threads: int | None) -> None:
        """Decode the chunks of a box into an array of its shape."""
        n_bands, side = self.shape[0], self.chunk_side_px
        _, rows, columns = box
        grid_rows, grid_columns = self._chunks_on(rows), self._chunks_on(columns)
        longest = int(self._index[slice(*grid_rows), slice(*grid_columns), 1].max())
        if longest == chunk_file.ABSENT:
            raise CubeError(f"{self.path}: a chunk is missing; delete the cube and run again to convert it anew")
        places = list(product(range(*grid_rows), range(*grid_columns)))
        todo = iter(places)  # shared: whoever is done takes the next chunk

        def read_chunks(memory: tuple[np.ndarray, np.ndarray]) -> None:
            self._read_chunks(out, box, todo, *memory)

        n_cores = len(os.sched_getaffinity(0))  # those of a job, not of the machine
        n_workers = min(len(places), threads or min(MAX_THREADS, n_cores))
        if out.nbytes < WORTH_THREADS_BYTES:  # threads cost more than they save
            n_workers = 1
        # for one encoded and one decoded chunk each. Allocated here: in a thread of its own all memory would be fresh,
        # and zeroed first
        memory = []
        for _ in range(n_workers):
            memory.append((np.empty(longest, np.uint8), np.empty((n_bands, side, side), self.dtype)))
        if n_workers == 1:
            read_chunks(memory[0])
            return
        with ThreadPoolExecutor(n_workers) as pool:  # no pool is kept: it would not survive a fork
            list(pool.map(read_chunks, memory))  # list: an error is raised when its result is taken

    def _chunks_on(self, pixels: Range) -> Range:
        """Rows or columns of the grid that a range of pixels touches."""
        start, stop = pixels
        return start // self.chunk_side_px, (stop - 1) // self.chunk_side_px + 1

    def _read_chunks(
        self,
        out: np.ndarray,
        box: tuple[Range, Range, Range],
        todo: Iterator[tuple[int, int]],
        stored: np.ndarray,
        chunk: np.ndarray,
    ) -> None:
        """Decode chunks as long as there are some to do, each into its part of the box.

        stored, chunk : memory for one chunk, encoded and decoded
        """
        (first_band, last_band), rows, columns = box
        with (self.path / CHUNK_FILE).open("rb", buffering=0) as file:
            for row, column in todo:
                offset, n_bytes = self._index[row, column].tolist()
                n_read = os.preadv(file.fileno(), [stored.data[:n_bytes]], offset)
                chunk_file.decode(self.path, stored[:n_read], chunk)  # which notices a read that was cut short
                rows_of_chunk, rows_of_box = self._overlap(row, rows)
                columns_of_chunk, columns_of_box = self._overlap(column, columns)
                part = chunk[first_band:last_band, rows_of_chunk, columns_of_chunk]
                out[:, rows_of_box, columns_of_box] = part

    def _overlap(self, place: int, pixels: Range) -> tuple[slice, slice]:
        """What a chunk and a range of pixels share along an axis, in pixels of the chunk and of the range."""
        chunk_start = place * self.chunk_side_px
        start, stop = pixels
        low, high = max(start, chunk_start), min(stop, chunk_start + self.chunk_side_px)
        return slice(low - chunk_start, high - chunk_start), slice(low - start, high - start)

    def _layer(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array of the image's size; CubeError where it is none."""
        try:
            metadata = array_metadata(self.path, name, self.attributes)
            require_layer(metadata, shape, dtype)
            return read_layer(self.path / name, metadata, partial(chunk_file.decode, self.path))
        # RuntimeError: what Blosc says of bytes that are none of its own
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CubeError(
                f"{self.path}: its array {name} is damaged ({str(error)[:80]}); "
                "delete the cube and run again to convert it anew"
            ) from error

    @cached_property
    def _index(self) -> np.ndarray:
        """(grid rows, grid columns, 2) offset and length of each chunk, bytes."""
        n_rows, n_columns = (-(-n // self.chunk_side_px) for n in self.shape[1:])
        index = chunk_file.read_index(self.path / CHUNK_FILE, n_rows * n_columns)
        return index.reshape(n_rows, n_columns, 2)


def open_cube(path: Path | str) -> Cube:
    """The cube at `path`; CubeError if it is missing, unfinished or something else."""
    path = Path(path)
    if not path.is_dir():
        raise CubeError(f"{path}: no such cube; make it with `hvlabel convert`")
    try:
        attributes = attributes_of(path)
        array = array_metadata(path, "cube", attributes)
        chunk_shape = array["codecs"][0]["configuration"]["chunk_shape"]
        n_bands, height, width = array["shape"]
        return Cube(
            path=path,
            shape=(n_bands, height, width),
            dtype=np.dtype(array["data_type"]),
            chunk_side_px=chunk_shape[1],
            wavelengths_nm=np.asarray(attributes["wavelengths_nm"], dtype=np.float64),
            attributes=attributes,
        )
    except CubeError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CubeError(
            f"{path}: not a finished cube of this project ({type(error).__name__}: {str(error)[:80]}); "
            "delete it and run again, or make it with `hvlabel convert`"
        ) from error


def _range(chosen: slice | int, size: int, path: Path) -> Range:
    """[start, stop) on an axis of this size; negative numbers count from the end."""
    if not isinstance(chosen, slice):
        index = operator.index(chosen)
        if not -size <= index < size:
            raise CubeError(f"{path}: index {index} on an axis of {size}; count from 0")
        index %= size
        return index, index + 1
    start, stop, step = chosen.indices(size)
    if step != 1:
        raise CubeError(f"{path}: a slice of step {step}; read the range and take every {step}th value of it")
    return start, stop
