"""NetCDF: version 4 is HDF5 and read as such, of version 3 SciPy reads the header; told apart by signature."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers import hdf5
from hvlabel.readers.attributes import Facts, facts_of
from hvlabel.readers.stored import FileArray, Packed, Slabs, StoredArray, require_plausible
from hvlabel.readers.variables import Variable, of_attributes, read_cube

V3_SIGNATURES = (b"CDF\x01", b"CDF\x02")
CDF5_SIGNATURE = b"CDF\x05"


def is_v3(path: Path) -> bool:
    """Whether a file is NetCDF of the classic format."""
    with path.open("rb") as file:
        head = file.read(4)
    if head == CDF5_SIGNATURE:
        raise RawFileError(f"{path}: NetCDF of format CDF-5, expected classic or 4; convert it with nccopy -k nc4")
    return head in V3_SIGNATURES


def read(path: Path, form: Form) -> StoredArray:
    """The cube of a NetCDF file."""
    return read_cube(path, form, variables(path))


def variables(path: Path) -> dict[str, Variable]:
    """All variables of the file; their values stay on disk until they are read."""
    if not is_v3(path):
        return hdf5.variables(path)
    from scipy.io import netcdf_file  # only here: few files need it

    found: dict[str, Variable] = {}
    with netcdf_file(path, "r", mmap=True) as file:
        found.update(of_attributes("", facts_of(file._attributes)))
        for name in list(file.variables):
            attributes = dict(file.variables[name]._attributes)
            if str(attributes.get("_Unsigned", "")).lower().strip("b'\"") == "true":
                raise RawFileError(
                    f"{path}: {name!r} keeps unsigned numbers in a signed type (_Unsigned); convert it with nccopy -k nc4"
                )
            found[name] = _variable(path, name, file.variables[name].data, facts_of(attributes))
            found.update(of_attributes(name, facts_of(attributes)))
    return dict(sorted(found.items()))


def _variable(path: Path, name: str, mapped: np.ndarray, facts: Facts) -> Variable:
    """A variable of the file. mapped: its values in the mapped file, of which only the place is kept."""
    shape, dtype = mapped.shape, mapped.dtype
    if dtype.kind not in "uif" or not shape or 0 in shape:
        value = np.array(mapped)
        return Variable(shape, str(dtype) if shape == () else "text", False, _no_cube, value.ravel, facts)
    offset, step = _place(mapped)
    row_bytes = mapped[0].nbytes
    flat = partial(_flat, path, dtype, offset, step, shape)

    def array(cube_shape: tuple[int, int, int]) -> Slabs | Packed:
        require_plausible(path, f"variable {name!r}", shape, dtype.itemsize, path.stat().st_size)
        if step == row_bytes or shape[0] == 1:
            return FileArray(path, dtype, cube_shape, offset)
        return Packed(cube_shape, dtype, partial(_records, path, dtype, offset, step, shape))

    return Variable(shape, str(dtype), False, array, flat, facts)


def _place(mapped: np.ndarray) -> tuple[int, int]:
    """Offset in the file of a mapped array's first value, and the distance of its records, in bytes."""
    buffer: Any = mapped
    while isinstance(buffer, np.ndarray):
        buffer = buffer.base
    start = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return mapped.__array_interface__["data"][0] - start, mapped.strides[0]


def _records(path: Path, dtype: np.dtype[Any], offset: int, step: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The records of a variable one by one; between them lie those of other variables."""
    n_bytes = int(np.prod(shape[1:], dtype=object)) * dtype.itemsize
    with path.open("rb") as file:
        for k in range(shape[0]):
            file.seek(offset + k * step)
            content = file.read(n_bytes)
            if len(content) != n_bytes:
                raise RawFileError(f"{path}: ends early; it is truncated, copy it again")
            yield np.frombuffer(content, dtype)


def _flat(path: Path, dtype: np.dtype[Any], offset: int, step: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([*_records(path, dtype, offset, step, shape)])


def _no_cube(_: tuple[int, int, int]) -> Slabs:
    raise RawFileError("no array of numbers")
