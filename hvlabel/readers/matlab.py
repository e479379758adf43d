"""MATLAB files: v5 through SciPy, v7.3 (which is HDF5) through h5py, told apart by signature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import scipy.io

from hvlabel.config import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers import hdf5
from hvlabel.readers.stored import StoredArray, choose_variable, require_cube

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
NUMERIC_CLASSES = {"double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"}


def is_v73(path: Path) -> bool:
    """Whether a .mat file is HDF5: its signature stands at offset 0 or behind MATLAB's 512-byte header."""
    with path.open("rb") as file:
        head = file.read(520)
    return HDF5_SIGNATURE in (head[:8], head[512:520])


def read(path: Path, descriptor: Descriptor) -> StoredArray:
    """The cube of a .mat file; v5 is loaded whole (it cannot be sliced), v7.3 lazily.

    The descriptor's axes are MATLAB's. HDF5 shows MATLAB arrays with all axes reversed; that is undone here.
    """
    if is_v73(path):
        return hdf5.read(path, descriptor, reversed_axes=True)
    shapes = {name: (shape, kind in NUMERIC_CLASSES) for name, shape, kind in scipy.io.whosmat(path)}
    name = choose_variable(path, shapes, descriptor.variable)
    wanted = [name, *([descriptor.wavelength_variable] if descriptor.wavelength_variable else [])]
    content = scipy.io.loadmat(path, variable_names=wanted)
    array = np.asarray(content[name])
    require_cube(path, f"variable {name!r}", array.shape, array.dtype)
    return StoredArray(
        array=da.from_array(array, chunks=-1, name=False),
        files=(path,),
        wavelengths_nm=_vector(path, content, descriptor.wavelength_variable),
    )


def _vector(path: Path, content: dict[str, Any], name: str | None) -> tuple[float, ...] | None:
    if name is None:
        return None
    values = np.asarray(content[name]).ravel() if name in content else np.empty(0)
    if values.size == 0 or values.dtype.kind not in "uif":
        raise RawFileError(
            f"{path}: no numeric vector {name!r} with the wavelengths; set descriptor.wavelength_variable"
        )
    return tuple(float(v) for v in values)
