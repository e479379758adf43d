"""NetCDF: version 4 is HDF5 and read as such, of version 3 SciPy reads the header; told apart by signature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.arrays import FileArray, Packed
from hvlabel.readers.contract import Certainty, Look, Stored, StoredArray
from hvlabel.readers.formats import hdf5
from hvlabel.readers.named.cube import read_cube
from hvlabel.readers.named.facts import Facts, facts_of
from hvlabel.readers.named.look import look_at_variables
from hvlabel.readers.named.variable import Variable, of_attributes
from hvlabel.readers.sizes import n_values, require_plausible

V3_SIGNATURES = (b"CDF\x01", b"CDF\x02")
CDF5_SIGNATURE = b"CDF\x05"


def read(path: Path, form: Form) -> StoredArray:
    """The cube of a NetCDF file."""
    return read_cube(path, form, variables(path))


def look(path: Path) -> Look:
    """See named.look."""
    return look_at_variables(path, variables(path))


def recognises(path: Path, head: bytes) -> Certainty:
    """Version 3 by its signature, CDF-5 too, so that it is refused by its name; version 4 passes for HDF5."""
    return Certainty.MAGIC if head.startswith((*V3_SIGNATURES, CDF5_SIGNATURE)) else Certainty.NONE


def variables(path: Path) -> dict[str, Variable]:
    """All variables of the file; their values stay on disk until they are read."""
    if not _is_v3(path):
        return hdf5.variables(path)
    from scipy.io import netcdf_file  # only here: few files need it

    collected: dict[str, Variable] = {}
    # mapped, so that only headers are read; what is kept of a variable is its place in the file
    with netcdf_file(path, "r", mmap=True) as file:  # big-endian throughout, which the types of the arrays say
        collected.update(of_attributes("", facts_of(file._attributes)))
        for name in list(file.variables):
            attributes = dict(file.variables[name]._attributes)
            if _is_unsigned(attributes):
                raise RawFileError(
                    f"{path}: {name!r} keeps unsigned numbers in a signed type (_Unsigned); "
                    "convert it with nccopy -k nc4"
                )
            facts = facts_of(attributes)
            collected[name] = _variable(path, name, file.variables[name].data, facts)
            collected.update(of_attributes(name, facts))
    return dict(sorted(collected.items()))


def _is_v3(path: Path) -> bool:
    """Whether a file is NetCDF of the classic format."""
    with path.open("rb") as file:
        head = file.read(4)
    if head == CDF5_SIGNATURE:
        raise RawFileError(f"{path}: NetCDF of format CDF-5, expected classic or 4; convert it with nccopy -k nc4")
    return head in V3_SIGNATURES


def _is_unsigned(attributes: Mapping[str, Any]) -> bool:
    """Whether the convention for unsigned numbers is used: a text that says true, or its bytes."""
    word = str(attributes.get("_Unsigned", "")).lower()
    return word.strip("b'\"") == "true"  # of bytes `str` shows their quotes too


@dataclass(frozen=True)
class _Records:
    """Where a variable's numbers lie in the file: record after record, between them perhaps those of other variables.

    offset : bytes before the first record
    step   : bytes from one record to the next
    """

    path: Path
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    step: int

    @property
    def record_bytes(self) -> int:
        """Of this variable's numbers in one record."""
        return n_values(self.shape[1:]) * self.dtype.itemsize

    def array(self, cube_shape: tuple[int, int, int]) -> Stored:
        """See Variable."""
        file_bytes = self.path.stat().st_size
        what = f"variable {self.name!r}"
        require_plausible(self.path, what, self.shape, self.dtype.itemsize, file_bytes)
        if self.step == self.record_bytes or self.shape[0] == 1:  # in one piece: nothing lies between the records
            return FileArray(self.path, self.dtype, cube_shape, self.offset)
        return Packed(cube_shape, self.dtype, self.blocks)

    def flat(self) -> np.ndarray:
        """See Variable."""
        return np.concatenate([*self.blocks()])

    def blocks(self) -> Iterator[np.ndarray]:
        """The records one by one."""
        with self.path.open("rb") as file:
            for k in range(self.shape[0]):
                file.seek(self.offset + k * self.step)
                content = file.read(self.record_bytes)
                if len(content) != self.record_bytes:
                    raise RawFileError(f"{self.path}: ends early; it is truncated, copy it again")
                yield np.frombuffer(content, self.dtype)


def _variable(path: Path, name: str, mapped: np.ndarray, facts: Facts) -> Variable:
    """A variable of the file. mapped: its values in the mapped file, of which only the place is kept."""
    shape, dtype = mapped.shape, mapped.dtype
    if dtype.kind not in "uif" or not shape or 0 in shape:  # texts and single numbers: no image, but read at once
        kind = str(dtype) if shape == () else "text"
        value = np.array(mapped)  # a copy: the mapping is closed
        return Variable(shape, kind, False, _no_cube, value.ravel, facts)
    step_bytes = mapped.strides[0]  # from a record to the next: variables lie interleaved
    records = _Records(path, name, dtype, shape, _offset(mapped), step_bytes)
    return Variable(shape, str(dtype), False, records.array, records.flat, facts)


def _offset(mapped: np.ndarray) -> int:
    """Offset in the file of a mapped array's first value, in bytes: its address behind that of the mapping."""
    buffer: Any = mapped
    while isinstance(buffer, np.ndarray):  # views of views, down to the mapping itself
        buffer = buffer.base
    whole = np.frombuffer(buffer, np.uint8)
    start = whole.__array_interface__["data"][0]
    return mapped.__array_interface__["data"][0] - start


def _no_cube(_: tuple[int, int, int]) -> Stored:
    raise RawFileError("no array of numbers")
