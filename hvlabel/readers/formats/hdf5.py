"""HDF5 files; also the inside of MATLAB v7.3 and NetCDF v4, which are HDF5."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.arrays import FileArray, Packed
from hvlabel.readers.contract import Certainty, Look, Stored, StoredArray
from hvlabel.readers.formats.hdf5_chunks import Hdf5Array
from hvlabel.readers.named.cube import read_cube
from hvlabel.readers.named.facts import facts_of
from hvlabel.readers.named.look import look_at_variables
from hvlabel.readers.named.variable import Variable, of_attributes
from hvlabel.readers.sizes import long_axes, require_plausible

with contextlib.suppress(ImportError):  # filters of third parties, where installed
    import hdf5plugin  # noqa: F401

SIGNATURE = b"\x89HDF\r\n\x1a\n"
USER_BLOCK_BYTES = 512  # MATLAB's header, before which the signature cannot stand
MAX_DEPTH, MAX_OBJECTS = 16, 10_000  # no data set nests deeper; a hostile file may, without end
MAX_ATTRIBUTES, MAX_CELLS = 256, 256
NO_IMAGES = (b"char", b"logical", b"cell", b"struct")  # MATLAB's classes that are stored as numbers all the same


def read(path: Path, form: Form) -> StoredArray:
    """The cube of an HDF5 file."""
    return read_cube(path, form, variables(path))


def look(path: Path) -> Look:
    """See named.look."""
    return look_at_variables(path, variables(path))


def recognises(path: Path, head: bytes) -> Certainty:
    """By its signature."""
    return Certainty.SIGNATURE if is_hdf5(head) else Certainty.NONE


def is_hdf5(head: bytes) -> bool:
    """Whether a file is HDF5: its signature stands at offset 0 or behind a user block of 512 bytes.

    head : its first bytes
    """
    behind_user_block = head[USER_BLOCK_BYTES : USER_BLOCK_BYTES + len(SIGNATURE)]
    return SIGNATURE in (head[: len(SIGNATURE)], behind_user_block)


def variables(path: Path, *, reversed_axes: bool = False) -> dict[str, Variable]:
    """All data sets of the file by path, and vectors among the attributes as path@attribute.

    reversed_axes : the file stores the form's axes in reverse (MATLAB v7.3)
    Links into other files are not followed. MATLAB's cells are name{1}, name{2}, ...
    """
    with h5py.File(path, "r") as file:
        tree = _Tree(path, file, reversed_axes)
        tree.take_attributes("", file)
        tree.walk()
    return dict(sorted(tree.variables.items()))


@dataclass
class _Tree:
    """A walk through all groups of a file, without recursion: a hostile file nests deeper than Python does."""

    path: Path
    file: h5py.File
    reversed_axes: bool
    variables: dict[str, Variable] = field(default_factory=dict)

    def walk(self) -> None:
        """Collect every data set."""
        # group, what its members' names begin with, depth
        todo: list[tuple[h5py.Group, str, int]] = [(self.file, "", 0)]
        n_objects = 0
        while todo:
            group, prefix, depth = todo.pop()
            for name in group:
                n_objects += 1
                if n_objects > MAX_OBJECTS:
                    raise RawFileError(
                        f"{self.path}: more than {MAX_OBJECTS} objects, expected an image; name another file"
                    )
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    continue  # a soft link may lead in a circle, an external one anywhere on the disk
                item = group[name]
                if isinstance(item, h5py.Dataset):
                    self._take_data_set(prefix + name, item)
                elif isinstance(item, h5py.Group) and not name.startswith("#"):  # MATLAB's own bookkeeping
                    if depth == MAX_DEPTH:
                        raise RawFileError(f"{self.path}: groups nested deeper than {MAX_DEPTH}; name another file")
                    self.take_attributes(prefix + name, item)
                    todo.append((item, f"{prefix}{name}/", depth + 1))

    def take_attributes(self, owner: str, item: h5py.HLObject) -> None:
        """The vectors among an item's attributes."""
        facts = facts_of(_attributes(item))
        self.variables.update(of_attributes(owner, facts))

    def _take_data_set(self, name: str, item: h5py.Dataset) -> None:
        if item.shape is None:  # HDF5's empty data set
            return
        self.variables[name] = _variable(self.path, name, item, self.reversed_axes)
        self.take_attributes(name, item)
        if self.reversed_axes:
            for k, part in enumerate(_cells(self.file, item)):
                cell_name = f"{name}{{{k + 1}}}"
                self.variables[cell_name] = _variable(self.path, cell_name, part, self.reversed_axes)


def _attributes(item: h5py.HLObject) -> dict[str, Any]:
    """The attributes that can be read and are no references."""
    attributes: dict[str, Any] = {}
    for name in itertools.islice(item.attrs, MAX_ATTRIBUTES):
        with contextlib.suppress(Exception):  # of a type that h5py does not know; it says nothing to us then
            attributes[name] = item.attrs[name]
    return attributes


def _cells(file: h5py.File, item: h5py.Dataset) -> list[h5py.Dataset]:
    """The arrays that a MATLAB cell array refers to."""
    if h5py.check_ref_dtype(item.dtype) is not h5py.Reference or item.size > MAX_CELLS:
        return []
    references = np.ravel(item[()], order="F")  # MATLAB counts down the columns
    parts = [file[reference] for reference in references if reference]
    return [part for part in parts if isinstance(part, h5py.Dataset) and part.shape is not None]


def _variable(path: Path, name: str, item: h5py.Dataset, reversed_axes: bool) -> Variable:
    """A data set as a variable: everything that is known of it while the file is open."""
    creation = item.id.get_create_plist()
    filters = tuple(creation.get_filter(k)[0] for k in range(creation.get_nfilters()))  # their numbers
    data_set = _DataSet(
        path=path,
        name=name,
        own_path=item.name,
        shape=item.shape,
        dtype=item.dtype,
        stored_bytes=item.id.get_storage_size(),
        is_foreign=item.is_virtual or bool(item.external),
        chunk=item.chunks,
        offset=item.id.get_offset(),
        filters=filters,
    )
    return Variable(
        shape=item.shape[::-1] if reversed_axes else item.shape,
        kind=_kind(item, reversed_axes),
        reversed=reversed_axes,
        array=data_set.array,
        flat=data_set.flat,
        facts=facts_of(_attributes(item)),
    )


def _kind(item: h5py.Dataset, reversed_axes: bool) -> str:
    """Name of a data set's type."""
    matlab_class = item.attrs.get("MATLAB_class") if reversed_axes else None
    if matlab_class in NO_IMAGES:
        return matlab_class.decode()
    if h5py.check_ref_dtype(item.dtype):
        return "cell"
    if item.dtype.kind in "uifb":
        return str(item.dtype)
    return "text" if item.dtype.kind in "SU" else "no number"


@dataclass(frozen=True)
class _DataSet:
    """A data set while its file is closed.

    name, own_path : in messages, and inside the file; cells have no name of their own
    is_foreign     : its values lie in other files
    chunk          : its chunk sizes, None if it is in one piece
    offset         : of the values in the file if they lie there in one piece, else None
    """

    path: Path
    name: str
    own_path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored_bytes: int
    is_foreign: bool
    chunk: tuple[int, ...] | None
    offset: int | None
    filters: tuple[int, ...]

    def array(self, cube_shape: tuple[int, int, int]) -> Stored:
        """See Variable."""
        self._require_readable()
        self._require_filters()
        if self.chunk is None and self.offset is not None:
            return FileArray(self.path, self.dtype, cube_shape, self.offset)
        axes = long_axes(self.shape)
        chunk = self.chunk or self.shape
        if tuple(self.shape[k] for k in axes) != cube_shape:  # a matrix of bands and pixels
            blocks = partial(_row_blocks, self.path, self.own_path, chunk[0])
            return Packed(cube_shape, self.dtype, blocks)
        first, second, third = (chunk[k] for k in axes)
        chunk_of_cube = (first, second, third)
        return Hdf5Array(self.path, self.own_path, cube_shape, self.dtype, chunk_of_cube, self.filters, axes)

    def flat(self) -> np.ndarray:
        """See Variable."""
        self._require_readable()
        with h5py.File(self.path, "r") as file:
            return np.ravel(file[self.own_path][()])

    def _require_readable(self) -> None:
        if self.is_foreign:
            raise RawFileError(
                f"{self.path}: {self.name!r} keeps its values in other files; "
                "expected them in this one: repack it with h5repack"
            )
        what = f"variable {self.name!r}"
        require_plausible(self.path, what, self.shape, self.dtype.itemsize, self.stored_bytes)

    def _require_filters(self) -> None:
        missing = [code for code in self.filters if not h5py.h5z.filter_avail(code)]
        if missing:
            raise RawFileError(
                f"{self.path}: {self.name!r} is compressed by HDF5 filter {missing[0]}, which this environment lacks; "
                "install hdf5plugin, or rewrite the file with h5repack"
            )


def _row_blocks(path: Path, name: str, thickness: int) -> Iterator[np.ndarray]:
    """A data set from front to back, in whole chunks along its first axis."""
    with h5py.File(path, "r") as file:
        stored = file[name]
        for start in range(0, stored.shape[0], thickness):
            yield stored[start : start + thickness]
