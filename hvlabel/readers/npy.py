"""NumPy .npy (memory-mapped) and .npz files; pickled objects are refused."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np

from hvlabel.config import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers.stored import StoredArray, choose_variable, lazy, require_cube


def read(path: Path, descriptor: Descriptor) -> StoredArray:
    """The cube of a .npy file (lazily) or of one array in a .npz file (whole)."""
    if path.suffix.lower() == ".npz":
        return _read_npz(path, descriptor)
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise RawFileError(f"{path}: an archive of arrays, expected one array; name it .npz")
    require_cube(path, "the array", array.shape, array.dtype)
    return StoredArray(array=lazy(array, descriptor.axes), files=(path,))


def _read_npz(path: Path, descriptor: Descriptor) -> StoredArray:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    name = choose_variable(path, {n: (a.shape, a.dtype.kind in "uif") for n, a in arrays.items()}, descriptor.variable)
    array = arrays[name]
    require_cube(path, f"array {name!r}", array.shape, array.dtype)
    wavelengths_nm = None
    if descriptor.wavelength_variable is not None:
        vector = arrays.get(descriptor.wavelength_variable)
        if vector is None or vector.dtype.kind not in "uif":
            raise RawFileError(
                f"{path}: no numeric vector {descriptor.wavelength_variable!r}; set descriptor.wavelength_variable"
            )
        wavelengths_nm = tuple(float(v) for v in vector.ravel())
    return StoredArray(array=da.from_array(array, chunks=-1, name=False), files=(path,), wavelengths_nm=wavelengths_nm)
