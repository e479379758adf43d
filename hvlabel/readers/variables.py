"""Files that hold several named arrays (MATLAB, HDF5, npz): which of them is the cube."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.stored import NUMERIC_KINDS, Packed, Slabs, StoredArray, require_cube

SHOWN = 12
VECTOR_VALUES = 10_000  # more than any camera has bands


@dataclass(frozen=True)
class Variable:
    """One named array.

    shape       : as the file's own tools show it (MATLAB order for .mat files)
    kind        : name of its type, e.g. uint16, char, struct
    reversed    : the bytes lie in the reverse order of the axes (MATLAB)
    array       : opens it as a cube in stored order; only for three axes of numbers
    flat        : all its values as a 1-D array; only for numbers
    """

    shape: tuple[int, ...]
    kind: str
    reversed: bool
    array: Callable[[], Slabs | Packed]
    flat: Callable[[], np.ndarray]

    @property
    def numeric(self) -> bool:
        """Whether it holds real numbers."""
        try:
            return np.dtype(self.kind).kind in NUMERIC_KINDS
        except TypeError:
            return False


def read_cube(path: Path, form: Form, variables: Mapping[str, Variable]) -> StoredArray:
    """The cube among the variables of a file, with the wavelengths and the RGB picture that the form names."""
    known_nm = form.known_wavelengths_nm()
    n_bands = None if known_nm is None else len(known_nm) + len(form.drop_bands)
    name = choose_variable(path, form, variables, n_bands)
    array = _cube(path, name, variables)
    return StoredArray(
        array=array,
        axes=form.axes[::-1] if variables[name].reversed else form.axes,
        files=(path,),
        wavelengths_nm=_wavelengths_nm(path, form, variables),
        rgb=None if form.rgb_variable is None else _cube(path, form.rgb_variable, variables),
    )


def choose_variable(path: Path, form: Form, variables: Mapping[str, Variable], n_bands: int | None) -> str:
    """Name of the cube: the form's variable, else the 3-D numeric one, of several the one with n_bands bands; form.of_several
    decides about the rest."""
    if form.variable is not None:
        return form.variable
    cubes = [n for n, v in variables.items() if v.numeric and len(v.shape) == 3 and n != form.rgb_variable]
    if len(cubes) > 1 and n_bands is not None:
        cubes = [n for n in cubes if variables[n].shape[form.axes.index("c")] == n_bands] or cubes
    if cubes and form.of_several == "last":
        return cubes[-1]
    if len(cubes) != 1:
        raise RawFileError(
            f"{path}: {len(cubes)} three-dimensional numeric arrays, expected one; it holds {listing(variables)}; set descriptor.variable"
        )
    return cubes[0]


def listing(variables: Mapping[str, Variable]) -> str:
    """Names and shapes in one line."""
    shown = [f"{name} {'x'.join(map(str, v.shape)) or 'scalar'} {v.kind}" for name, v in variables.items()]
    more = f", ... ({len(shown) - SHOWN} more)" if len(shown) > SHOWN else ""
    return (", ".join(shown[:SHOWN]) or "nothing") + more


def _cube(path: Path, name: str, variables: Mapping[str, Variable]) -> Slabs | Packed:
    if name not in variables:
        raise RawFileError(f"{path}: no variable {name!r}; it holds {listing(variables)}; set descriptor.variable")
    found = variables[name]
    if not found.numeric:
        raise RawFileError(
            f"{path}: variable {name!r} has type {found.kind}, expected numbers; it holds {listing(variables)}; set descriptor.variable"
        )
    require_cube(path, f"variable {name!r}", found.shape, np.dtype(found.kind))
    return found.array()


def _wavelengths_nm(path: Path, form: Form, variables: Mapping[str, Variable]) -> tuple[float, ...] | None:
    name = form.wavelength_variable
    if name is None:
        return None
    found = variables.get(name)
    values = band_centres_nm(found) if found is not None else None
    if values is None and form.wavelengths_nm is None:
        raise RawFileError(
            f"{path}: no numeric vector {name!r} with the wavelengths; it holds {listing(variables)}; set descriptor.wavelength_variable"
        )
    return values


def band_centres_nm(variable: Variable) -> tuple[float, ...] | None:
    """Values of a numeric vector as nm (all below 100: they are micrometres), or None if it is none."""
    size = int(np.prod(variable.shape, dtype=object)) if variable.shape else 0
    if not variable.numeric or not 0 < size <= VECTOR_VALUES or max(variable.shape) != size:
        return None
    values = np.asarray(variable.flat(), dtype=np.float64)
    if np.array_equal(values, np.arange(size)) or np.array_equal(values, np.arange(1, size + 1)):
        return None  # numbers of the bands
    factor = 1000.0 if np.all(values < 100) else 1.0
    return tuple(float(v) * factor for v in values)
