"""What every container reader returns: the array as it lies in the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

from hvlabel.errors import RawFileError

BLOCK_BYTES = 16 << 20  # one dask block of a sliceable file; the working set of a conversion is a few of these


@dataclass(frozen=True)
class StoredArray:
    """An array in file order with what its container says about it.

    array          : 3-D dask array, axes as stored
    axes           : permutation of "yxc" if the container fixes the order (ENVI), else None: the descriptor's
    wavelengths_nm : (C,) band centres in file order, or None
    scale, unit    : stored value times scale = physical value, or None if the container does not say
    files          : every file that was read, the named one first
    """

    array: da.Array
    files: tuple[Path, ...]
    axes: str | None = None
    wavelengths_nm: tuple[float, ...] | None = None
    scale: float | None = None
    unit: str | None = None


def lazy(array: Any, axes: str, block_bytes: int = BLOCK_BYTES) -> da.Array:
    """Dask array over anything sliceable, cut along the image rows."""
    row_axis = axes.index("y")
    row_bytes = int(np.prod(array.shape)) * array.dtype.itemsize // max(array.shape[row_axis], 1)
    rows = max(1, block_bytes // max(row_bytes, 1))
    chunks = tuple(rows if axis == row_axis else -1 for axis in range(3))
    return da.from_array(array, chunks=chunks, name=False, lock=True, asarray=True)


def require_cube(path: Path, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse anything but a 3-D numeric array."""
    if len(shape) != 3 or 0 in shape:
        raise RawFileError(
            f"{path}: {what} has shape {shape}, expected three axes (row, column, band); name another variable or file"
        )
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise RawFileError(
            f"{path}: {what} has type {dtype}, expected numbers of at most 64 bit; name another variable or file"
        )


def choose_variable(path: Path, shapes: dict[str, tuple[tuple[int, ...], bool]], wanted: str | None) -> str:
    """Name of the array to read.

    shapes : name -> (shape, is numeric) of everything in the file
    wanted : the descriptor's variable; None picks the only 3-D numeric array
    """
    if wanted is not None:
        if wanted not in shapes:
            raise RawFileError(f"{path}: no variable {wanted!r}; it holds {_listing(shapes)}; set descriptor.variable")
        return wanted
    cubes = [name for name, (shape, numeric) in shapes.items() if numeric and len(shape) == 3]
    if len(cubes) != 1:
        raise RawFileError(
            f"{path}: {len(cubes)} three-dimensional numeric arrays, expected one; it holds {_listing(shapes)}; set descriptor.variable"
        )
    return cubes[0]


def _listing(shapes: dict[str, tuple[tuple[int, ...], bool]]) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, (shape, _) in shapes.items()) or "nothing"
