"""HDF5 files, also MATLAB v7.3."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from isal import isal_zlib

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.attributes import facts_of
from hvlabel.readers.stored import (
    FileArray,
    Packed,
    Slabs,
    StoredArray,
    empty_slab,
    require_plausible,
)
from hvlabel.readers.variables import Variable, of_attributes, read_cube

with contextlib.suppress(ImportError):  # filters of third parties, where installed
    import hdf5plugin  # noqa: F401

DEFLATE, SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
FLETCHER32, FLETCHER_BYTES = h5py.h5z.FILTER_FLETCHER32, 4
OWN_FILTERS = tuple((*a, DEFLATE, *b) for a in ((), (SHUFFLE,)) for b in ((), (FLETCHER32,)))
BATCH_CHUNKS = 64  # read before they are unpacked
MAX_DEPTH, MAX_OBJECTS = 16, 10_000  # no data set nests deeper; a hostile file may, without end
MAX_ATTRIBUTES, MAX_CELLS = 256, 256


def read(path: Path, form: Form, *, reversed_axes: bool = False) -> StoredArray:
    """The cube of an HDF5 file. reversed_axes: the file stores the form's axes in reverse (MATLAB v7.3)."""
    return read_cube(path, form, variables(path, reversed_axes=reversed_axes))


def variables(path: Path, *, reversed_axes: bool = False) -> dict[str, Variable]:
    """All data sets of the file by path, and vectors among the attributes as path@attribute; links into other files are not
    followed. MATLAB's cells are name{1}, name{2}, ..."""
    found: dict[str, Variable] = {}
    with h5py.File(path, "r") as file:
        found.update(of_attributes("", facts_of(_attributes(file))))
        todo = [(file, "", 0)]
        seen = 0
        while todo:
            group, prefix, depth = todo.pop()
            for name in group:
                seen += 1
                if seen > MAX_OBJECTS:
                    raise RawFileError(f"{path}: more than {MAX_OBJECTS} objects, expected an image; name another file")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    continue
                item = group[name]
                whole = prefix + name
                if isinstance(item, h5py.Dataset):
                    if item.shape is not None:
                        found[whole] = _variable(path, whole, item, reversed_axes)
                        found.update(of_attributes(whole, facts_of(_attributes(item))))
                        for k, part in enumerate(_cells(file, item) if reversed_axes else ()):
                            found[f"{whole}{{{k + 1}}}"] = _variable(path, f"{whole}{{{k + 1}}}", part, reversed_axes)
                elif isinstance(item, h5py.Group) and not name.startswith("#"):  # MATLAB's own bookkeeping
                    if depth == MAX_DEPTH:
                        raise RawFileError(f"{path}: groups nested deeper than {MAX_DEPTH}; name another file")
                    found.update(of_attributes(whole, facts_of(_attributes(item))))
                    todo.append((item, f"{whole}/", depth + 1))
    return dict(sorted(found.items()))


def _attributes(item: h5py.HLObject) -> dict[str, Any]:
    """The attributes that can be read and are no references."""
    read: dict[str, Any] = {}
    for name in itertools.islice(item.attrs, MAX_ATTRIBUTES):
        with contextlib.suppress(Exception):  # of a type that h5py does not know; it says nothing to us then
            read[name] = item.attrs[name]
    return read


def _cells(file: h5py.File, item: h5py.Dataset) -> list[h5py.Dataset]:
    """The arrays that a MATLAB cell array refers to."""
    if h5py.check_ref_dtype(item.dtype) is not h5py.Reference or item.size > MAX_CELLS:
        return []
    parts = [file[reference] for reference in np.ravel(item[()], order="F") if reference]
    return [part for part in parts if isinstance(part, h5py.Dataset) and part.shape is not None]


@dataclass(frozen=True)
class Hdf5Array:
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

    def read(self, axis: int, start: int, stop: int, reuse: np.ndarray | None = None) -> np.ndarray:
        """[start, stop) of one axis."""
        box = tuple((start, stop) if k == axis else (0, n) for k, n in enumerate(self.shape))
        with h5py.File(self.path, "r") as file:
            stored = file[self.name]
            if self.filters not in OWN_FILTERS:
                wanted: list[slice | int] = [0] * stored.ndim
                for whole_axis, (first, last) in zip(self.axes, box, strict=True):
                    wanted[whole_axis] = slice(first, last)
                return stored[tuple(wanted)]
            out = empty_slab(tuple(b - a for a, b in box), self.dtype, reuse)
            grid = itertools.product(
                *(range(a // c * c, b, c) for (a, b), c in zip(box, self.chunk, strict=True))
            )  # corners of the chunks
            with ThreadPoolExecutor(self.threads) as pool:  # the library would unpack one after another
                for part in _batches(grid):
                    packed = [
                        (corner, _packed_chunk(stored, self._whole_corner(corner, stored.ndim))) for corner in part
                    ]
                    list(pool.map(lambda item: self._place(out, box, stored.fillvalue, *item), packed))
            return out

    def packed(self) -> Packed:
        """The same data set from front to back, each chunk read once."""
        return Packed(self.shape, self.dtype, self._blocks)

    def _blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, self.shape[0], self.chunk[0]):
            yield self.read(0, start, min(start + self.chunk[0], self.shape[0]))

    def _whole_corner(self, corner: tuple[int, ...], n_axes: int) -> tuple[int, ...]:
        """A corner with the axes of length one put in."""
        whole = [0] * n_axes
        for axis, at in zip(self.axes, corner, strict=True):
            whole[axis] = at
        return tuple(whole)

    def _place(
        self,
        out: np.ndarray,
        box: tuple[tuple[int, int], ...],
        fill: Any,
        corner: tuple[int, ...],
        content: bytes | None,
    ) -> None:
        """Unpack one chunk and copy what of it lies in the box."""
        inside, target = [], []
        for (first, last), at, size in zip(box, corner, self.chunk, strict=True):
            low, high = max(first, at), min(last, at + size)
            inside.append(slice(low - at, high - at))
            target.append(slice(low - first, high - first))
        if content is None:
            out[tuple(target)] = fill
            return
        if FLETCHER32 in self.filters:
            content = content[:-FLETCHER_BYTES]  # deflate has a checksum of its own
        stream = isal_zlib.decompressobj()
        values = np.frombuffer(stream.decompress(content, self.chunk_bytes + 1), np.uint8)
        if values.size != self.chunk_bytes or not stream.eof:
            raise RawFileError(
                f"{self.path}: a chunk of {self.name!r} does not unpack to {self.chunk_bytes} bytes; it is damaged, copy it again"
            )
        if SHUFFLE in self.filters:
            values = np.ascontiguousarray(values.reshape(self.dtype.itemsize, -1).T)
        out[tuple(target)] = values.reshape(-1).view(self.dtype).reshape(self.chunk)[tuple(inside)]


def _batches(items: Iterator[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    while batch := list(itertools.islice(items, BATCH_CHUNKS)):
        yield batch


def _packed_chunk(stored: h5py.Dataset, corner: tuple[int, ...]) -> bytes | None:
    """Bytes of a chunk as they lie in the file; None if it was never written."""
    try:
        mask, content = stored.id.read_direct_chunk(corner)
    except Exception:
        if stored.id.get_chunk_info_by_coord(corner).byte_offset is None:
            return None
        raise
    if mask:
        raise RawFileError(f"{stored.file.filename}: a chunk was written without its filters; rewrite it with h5repack")
    return content


def _variable(path: Path, name: str, item: h5py.Dataset, reversed_axes: bool) -> Variable:
    shape, dtype, own_name = item.shape, item.dtype, item.name
    kind = str(dtype) if dtype.kind in "uifb" else "text" if dtype.kind in "SU" else "no number"
    matlab_class = item.attrs.get("MATLAB_class") if reversed_axes else None
    if h5py.check_ref_dtype(dtype):
        kind = "cell"
    if matlab_class in (b"char", b"logical", b"cell", b"struct"):  # stored as numbers, but no image
        kind = matlab_class.decode()
    stored_bytes = item.id.get_storage_size()
    foreign = item.is_virtual or bool(item.external)
    chunk, offset = item.chunks, item.id.get_offset()
    creation = item.id.get_create_plist()
    filters = tuple(creation.get_filter(k)[0] for k in range(creation.get_nfilters()))
    plain = chunk is None and offset is not None

    def check() -> None:
        if foreign:
            raise RawFileError(
                f"{path}: {name!r} keeps its values in other files; expected them in this one: repack it with h5repack"
            )
        require_plausible(path, f"variable {name!r}", shape, dtype.itemsize, stored_bytes)

    def array(cube_shape: tuple[int, int, int]) -> Slabs | Packed:
        check()
        missing = [code for code in filters if not h5py.h5z.filter_avail(code)]
        if missing:
            raise RawFileError(
                f"{path}: {name!r} is compressed by HDF5 filter {missing[0]}, which this environment lacks; install hdf5plugin, or rewrite the file with h5repack"
            )
        if plain:
            return FileArray(path, dtype, cube_shape, offset)
        axes = _long_axes(shape)
        if tuple(shape[k] for k in axes) != cube_shape:  # a matrix of bands and pixels
            return Packed(cube_shape, dtype, lambda: _row_blocks(path, own_name, chunk or shape))
        chunk_shape = tuple((chunk or shape)[k] for k in axes)
        return Hdf5Array(path, own_name, cube_shape, dtype, chunk_shape, filters, axes)

    def flat() -> np.ndarray:
        check()
        with h5py.File(path, "r") as file:
            return np.ravel(file[own_name][()])

    facts = facts_of(_attributes(item))
    return Variable(shape[::-1] if reversed_axes else shape, kind, reversed_axes, array, flat, facts)


def _long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that `squeezed` leaves of a shape."""
    axes = list(range(len(shape)))
    while len(axes) > 3 and any(shape[k] == 1 for k in axes):
        axes.remove(next(k for k in axes if shape[k] == 1))
    return tuple(axes)


def _row_blocks(path: Path, name: str, chunk: tuple[int, ...]) -> Iterator[np.ndarray]:
    """A data set from front to back, in whole chunks along its first axis."""
    with h5py.File(path, "r") as file:
        stored = file[name]
        for start in range(0, stored.shape[0], chunk[0]):
            yield stored[start : start + chunk[0]]
