"""NetCDF: version 4 is HDF5 and read as such, version 3 through SciPy; told apart by signature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers import hdf5
from hvlabel.readers.attributes import facts_of
from hvlabel.readers.stored import MemoryArray, StoredArray, require_plausible
from hvlabel.readers.variables import Variable, of_attributes, read_cube

V3_SIGNATURES = (b"CDF\x01", b"CDF\x02")


def is_v3(path: Path) -> bool:
    """Whether a file is NetCDF of the classic format."""
    with path.open("rb") as file:
        return file.read(4) in V3_SIGNATURES


def read(path: Path, form: Form) -> StoredArray:
    """The cube of a NetCDF file."""
    return read_cube(path, form, variables(path))


def variables(path: Path) -> dict[str, Variable]:
    """All variables of the file; their values stay on disk until they are read."""
    if not is_v3(path):
        return hdf5.variables(path)
    from scipy.io import netcdf_file  # only here: few files need it

    file = netcdf_file(path, "r", mmap=True)  # stays open as long as the arrays are in use
    found = {name: _variable(path, name, variable) for name, variable in file.variables.items()}
    for owner, item in (("", file), *file.variables.items()):
        found.update(of_attributes(owner, facts_of(item._attributes)))
    return dict(sorted(found.items()))


def _variable(path: Path, name: str, variable: Any) -> Variable:
    values = variable.data
    kind = str(values.dtype) if values.dtype.kind in "uif" else "text"

    def array(cube_shape: tuple[int, int, int]) -> MemoryArray:
        require_plausible(path, f"variable {name!r}", values.shape, values.dtype.itemsize, path.stat().st_size)
        if values.size != int(np.prod(cube_shape, dtype=object)):
            raise RawFileError(f"{path}: {name!r} does not hold {cube_shape} values; it is damaged, copy it again")
        return MemoryArray(values.reshape(cube_shape))

    return Variable(tuple(values.shape), kind, False, array, _flat(values), facts_of(variable._attributes))


def _flat(values: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: np.array(values).ravel()
