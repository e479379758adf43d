"""A chunked data set of an HDF5 file as slabs. Where its filters are deflate and shuffle, chunks are unpacked here.

The library would unpack one chunk after another, under a lock of its own; here they are unpacked side by side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from isal import isal_zlib

from hvlabel.errors import RawFileError
from hvlabel.readers.arrays import Cut, Packed, empty_slab
from hvlabel.readers.contract import Budget, Slabs
from hvlabel.readers.slabs import chunk_row_bytes, slab_axis

DEFLATE, SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
FLETCHER32, FLETCHER_BYTES = h5py.h5z.FILTER_FLETCHER32, 4
# filters that are undone here, in the order of writing: shuffle or not, deflate, checksum or not
OWN_FILTERS = (
    (DEFLATE,),
    (SHUFFLE, DEFLATE),
    (DEFLATE, FLETCHER32),
    (SHUFFLE, DEFLATE, FLETCHER32),
)
BATCH_CHUNKS = 64  # read before they are unpacked

Corner = tuple[int, ...]  # first index of a chunk on each axis
Box = tuple[tuple[int, int], ...]  # [start, stop) on each axis


@dataclass(frozen=True)
class Hdf5Array(Cut):
    """A chunked data set; the file is open only while a slab is read.

    axes    : which axes of the data set are these three; the others have length one
    filters : HDF5's codes of the filters in the order of writing
    threads : how many chunks are unpacked side by side, where all filters are ours
    """

    path: Path
    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    chunk: tuple[int, int, int]
    filters: tuple[int, ...]
    axes: tuple[int, ...] = (0, 1, 2)
    threads: int = 1

    @property
    def chunk_bytes(self) -> int:
        """Unpacked size of one chunk; it may be larger than the data set."""
        return math.prod(self.chunk) * self.dtype.itemsize

    @contextmanager
    def opened(self, budget: Budget) -> Iterator[Slabs]:
        """The array with as many threads as memory allows.

        Unpacked first, if slabs of whole chunks would take too much: a chunk that several slabs touch would be unpacked
        for each of them.
        """
        self._require_small_chunks(budget)
        self._require_chunks_in_place()
        # every thread holds an unpacked chunk
        n_affordable = budget.memory_bytes // 4 // self.chunk_bytes
        threads = min(budget.threads, n_affordable)
        array = replace(self, threads=max(1, threads))
        axis = slab_axis(array, budget.image_axes)
        if chunk_row_bytes(array, axis) <= budget.memory_bytes // 8:
            yield array
            return
        array._require_thin_rows(budget)
        with Packed(array.shape, array.dtype, array._blocks).opened(budget) as slabs:
            yield slabs

    def read(self, axis: int, start: int, stop: int, reuse: np.ndarray | None = None) -> np.ndarray:
        """[start, stop) of one axis."""
        whole = tuple((0, n) for n in self.shape)
        box = (*whole[:axis], (start, stop), *whole[axis + 1 :])  # first and last, excluded, on each axis
        with h5py.File(self.path, "r") as file:
            stored = file[self.name]
            if self.filters not in OWN_FILTERS:  # the library undoes what we do not know
                slices = [slice(first, last) for first, last in box]
                return stored[self._inside_data_set(stored, slices)]
            sizes = tuple(last - first for first, last in box)
            out = empty_slab(sizes, self.dtype, reuse)
            self._unpack_into(out, box, stored)
        return out

    def _unpack_into(self, out: np.ndarray, box: Box, stored: h5py.Dataset) -> None:
        """Fill a slab chunk by chunk: read by one thread, since the library has one lock, unpacked by all."""
        starts = []  # the first chunk on each axis may begin before the box
        for (first, last), size in zip(box, self.chunk, strict=True):
            begin = first // size * size
            starts.append(range(begin, last, size))
        corners = itertools.product(*starts)
        place = partial(self._place, out, box, stored.fillvalue)
        with ThreadPoolExecutor(self.threads) as pool:
            for batch in _batches(corners):
                contents = [_packed_chunk(stored, self._inside_data_set(stored, corner)) for corner in batch]
                list(pool.map(place, batch, contents))  # list: an error is raised when its result is taken

    def _place(self, out: np.ndarray, box: Box, fill: Any, corner: Corner, content: bytes | None) -> None:
        """Unpack one chunk and copy what of it lies in the box; fill: what chunks hold that were never written."""
        inside, target = [], []
        for (first, last), at, size in zip(box, corner, self.chunk, strict=True):
            low = max(first, at)
            high = min(last, at + size)  # the last chunk of an axis may reach beyond the data set
            inside.append(slice(low - at, high - at))
            target.append(slice(low - first, high - first))
        # chunks lie apart in the slab: threads never write to the same place
        out[tuple(target)] = fill if content is None else self._unpacked(content)[tuple(inside)]

    def _unpacked(self, content: bytes) -> np.ndarray:
        """A chunk's values; RawFileError unless they are exactly as many bytes as it has."""
        if FLETCHER32 in self.filters:
            content = content[:-FLETCHER_BYTES]  # deflate has a checksum of its own
        stream = isal_zlib.decompressobj()
        # one byte more than it may have: a hostile chunk unpacks no further, and is known by it
        unpacked = stream.decompress(content, self.chunk_bytes + 1)
        values = np.frombuffer(unpacked, np.uint8)
        if values.size != self.chunk_bytes or not stream.eof:
            raise RawFileError(
                f"{self.path}: a chunk of {self.name!r} does not unpack to {self.chunk_bytes} bytes; "
                "it is damaged, copy it again"
            )
        if SHUFFLE in self.filters:
            # all first bytes lie before all second ones
            by_byte = values.reshape(self.dtype.itemsize, -1)  # (bytes of a value, values)
            values = np.ascontiguousarray(by_byte.T)
        numbers = values.reshape(-1).view(self.dtype)
        return numbers.reshape(self.chunk)

    def _inside_data_set(self, stored: h5py.Dataset, index: Any) -> tuple[Any, ...]:
        """An index with one item per axis of ours, as one of the data set: axes of length one get a 0."""
        whole: list[Any] = [0] * stored.ndim
        for axis, item in zip(self.axes, index, strict=True):
            whole[axis] = item
        return tuple(whole)

    def _blocks(self) -> Iterator[np.ndarray]:
        """Everything from front to back, each chunk read once."""
        thickness = self.chunk[0]
        for start in range(0, self.shape[0], thickness):
            stop = min(start + thickness, self.shape[0])
            yield self.read(0, start, stop)

    def _require_chunks_in_place(self) -> None:
        """RawFileError where the list of chunks names a place that is no chunk's, or one twice.

        What the list has lost is read as the fill value: a damaged entry would be zeros among the values.
        """
        with h5py.File(self.path, "r") as file:
            stored = file[self.name]
            if not hasattr(stored.id, "chunk_iter"):  # HDF5 before 1.12.3
                return
            corners: list[Corner] = []
            stored.id.chunk_iter(lambda chunk: corners.append(chunk.chunk_offset))
            shape, chunk = np.array(stored.shape, np.uint64), np.array(stored.chunks, np.uint64)
        places = np.array(corners, np.uint64).reshape(-1, len(shape))  # (chunks, axes)
        is_chunk = (places < shape) & (places % chunk == 0)
        if not is_chunk.all() or len(set(corners)) < len(corners):
            raise RawFileError(
                f"{self.path}: the list of the chunks of {self.name!r} is damaged; copy the file again, or repair it "
                "with h5repack"
            )

    def _require_small_chunks(self, budget: Budget) -> None:
        if self.chunk_bytes > budget.memory_bytes // 4:
            raise RawFileError(
                f"{budget.path}: one chunk {self.chunk} unpacks to {self.chunk_bytes >> 20} MiB, "
                "more than cube.memory_mib allows for; raise it or rewrite the file with h5repack"
            )

    def _require_thin_rows(self, budget: Budget) -> None:
        """RawFileError where even from front to back too many chunks lie side by side."""
        needed_bytes = chunk_row_bytes(self, 0)
        if needed_bytes > budget.memory_bytes // 8:
            raise RawFileError(
                f"{budget.path}: chunks of {self.chunk} need {needed_bytes >> 20} MiB to be read once each, "
                "more than an eighth of cube.memory_mib; raise it or rewrite the file with h5repack"
            )


def _batches(items: Iterator[Corner]) -> Iterator[list[Corner]]:
    while True:
        batch = list(itertools.islice(items, BATCH_CHUNKS))
        if not batch:
            return
        yield batch


def _packed_chunk(stored: h5py.Dataset, corner: Corner) -> bytes | None:
    """Bytes of a chunk as they lie in the file; None if it was never written."""
    try:
        skipped_filters, content = stored.id.read_direct_chunk(corner)
    except Exception:
        if stored.id.get_chunk_info_by_coord(corner).byte_offset is None:
            return None
        raise
    if skipped_filters:
        raise RawFileError(f"{stored.file.filename}: a chunk was written without its filters; rewrite it with h5repack")
    return content
