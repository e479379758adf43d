"""HDF5 files, also MATLAB v7.3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.stored import FileArray, Packed, Slabs, StoredArray, require_cube, require_plausible
from hvlabel.readers.variables import Variable, read_cube

MAX_DEPTH, MAX_OBJECTS = 16, 10_000  # no data set nests deeper; a hostile file may, without end


def read(path: Path, form: Form, *, reversed_axes: bool = False) -> StoredArray:
    """The cube of an HDF5 file. reversed_axes: the file stores the form's axes in reverse (MATLAB v7.3)."""
    return read_cube(path, form, variables(path, reversed_axes=reversed_axes))


def variables(path: Path, *, reversed_axes: bool = False) -> dict[str, Variable]:
    """All data sets of the file by path; links into other files are not followed."""
    found: dict[str, Variable] = {}
    with h5py.File(path, "r") as file:
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
                if isinstance(item, h5py.Dataset):
                    if item.shape is not None:
                        found[prefix + name] = _variable(path, prefix + name, item, reversed_axes)
                elif isinstance(item, h5py.Group) and not name.startswith("#"):  # MATLAB's own bookkeeping
                    if depth == MAX_DEPTH:
                        raise RawFileError(f"{path}: groups nested deeper than {MAX_DEPTH}; name another file")
                    todo.append((item, f"{prefix}{name}/", depth + 1))
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Hdf5Array:
    """A chunked data set; the file is open only while a slab is read."""

    path: Path
    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    chunk: tuple[int, int, int]

    def read(self, axis: int, start: int, stop: int) -> np.ndarray:
        """[start, stop) of one axis."""
        with h5py.File(self.path, "r") as file:
            return file[self.name][(slice(None),) * axis + (slice(start, stop),)]

    def packed(self) -> Packed:
        """The same data set from front to back, each chunk read once."""
        return Packed(self.shape, self.dtype, self._blocks)

    def _blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, self.shape[0], self.chunk[0]):
            yield self.read(0, start, min(start + self.chunk[0], self.shape[0]))


def _variable(path: Path, name: str, item: h5py.Dataset, reversed_axes: bool) -> Variable:
    shape, dtype = item.shape, item.dtype
    kind = str(dtype) if dtype.kind in "uifb" else "text" if dtype.kind in "SU" else "no number"
    stored_bytes = item.id.get_storage_size()
    foreign = item.is_virtual or bool(item.external)
    chunk, offset = item.chunks, item.id.get_offset()
    plain = chunk is None and offset is not None

    def check() -> None:
        if foreign:
            raise RawFileError(
                f"{path}: {name!r} keeps its values in other files; expected them in this one: repack it with h5repack"
            )
        require_plausible(path, f"variable {name!r}", shape, dtype.itemsize, stored_bytes)

    def array() -> Slabs:
        check()
        cube_shape = require_cube(path, f"variable {name!r}", shape, dtype)
        if plain:
            return FileArray(path, dtype, cube_shape, offset)
        return Hdf5Array(path, name, cube_shape, dtype, chunk or cube_shape)

    def flat() -> np.ndarray:
        check()
        with h5py.File(path, "r") as file:
            return np.ravel(file[name][()])

    return Variable(shape[::-1] if reversed_axes else shape, kind, reversed_axes, array, flat)
