"""HDF5 files, also MATLAB v7.3."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from hvlabel.config import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers.stored import StoredArray, choose_variable, lazy, require_cube

# compressed chunks often span all rows: small blocks would decompress the whole file once per block
HDF5_BLOCK_BYTES = 64 << 20


def read(path: Path, descriptor: Descriptor, *, reversed_axes: bool = False) -> StoredArray:
    """Lazy cube of an HDF5 file, which stays open as long as the array lives.

    reversed_axes : the file stores the descriptor's axes in reverse (MATLAB v7.3)
    """
    file = h5py.File(path, "r")
    shapes: dict[str, tuple[tuple[int, ...], bool]] = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            shapes[name] = (item.shape, item.dtype.kind in "uif")

    file.visititems(note)
    name = choose_variable(path, shapes, descriptor.variable)
    stored = file[name]
    require_cube(path, f"variable {name!r}", stored.shape, stored.dtype)
    axes = descriptor.axes[::-1] if reversed_axes else descriptor.axes
    array = lazy(stored, axes, HDF5_BLOCK_BYTES)
    return StoredArray(
        array=array, axes=axes, files=(path,), wavelengths_nm=_vector(path, file, descriptor.wavelength_variable)
    )


def _vector(path: Path, file: h5py.File, name: str | None) -> tuple[float, ...] | None:
    if name is None:
        return None
    if not isinstance(file.get(name), h5py.Dataset) or file[name].dtype.kind not in "uif":
        raise RawFileError(
            f"{path}: no numeric vector {name!r} with the wavelengths; set descriptor.wavelength_variable"
        )
    return tuple(float(v) for v in np.ravel(file[name][()]))
