"""Files that hold several named arrays (MATLAB, HDF5, NetCDF, npz): which of them is the cube, and what others say about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.attributes import NO_FACTS, Facts
from hvlabel.readers.stored import (
    NUMERIC_KINDS,
    Gains,
    MemoryArray,
    Packed,
    Slabs,
    StoredArray,
    gains_of,
    require_cube,
    squeezed,
)
from hvlabel.wavelengths import Centres

SHOWN = 12
COLOURS = 3  # an array with this many values on an axis may be a picture
FEWEST_BANDS = 4
MOST_SIDE_PX = 1_000_000
SAME_CENTRES = 1e-4  # relative; the same centres may be kept twice, once as float32
VECTOR_VALUES = 10_000  # more than any camera has bands
CENTRE_NAMES = re.compile(r"wave|wvl|lambda|cent(re|er)|(^|[^a-z])nm($|[^a-z])")
OTHER_NAMES = re.compile(r"fwhm|width|good|bad|uncert|err|std|weight|flag|mask")  # of wavelengths, but no centres
WAVENUMBERS = re.compile(r"wave_?num")
GOOD_BAND_NAMES = ("bbl", "bad_band_list", "good_bands", "good_wavelengths", "goodbands")
ROW_NAMES = ("nrow", "nrows", "rows", "nlines", "lines", "height")
COLUMN_NAMES = ("ncol", "ncols", "cols", "columns", "nsamples", "samples", "width")
TRUTH_KINDS = ("bool", "logical")
MOSTLY = 0.9  # centres rise or fall but where one spectrometer's range ends inside the next one's


@dataclass(frozen=True)
class Variable:
    """One named array.

    shape       : as the file's own tools show it (MATLAB order for .mat files)
    kind        : name of its type, e.g. uint16, char, struct
    reversed    : the bytes lie in the reverse order of the axes (MATLAB)
    array       : opens it as a cube of three given sizes in stored order, which hold as many values as it has
    flat        : all its values as a 1-D array; only for numbers
    facts       : what its attributes say
    """

    shape: tuple[int, ...]
    kind: str
    reversed: bool
    array: Callable[[tuple[int, int, int]], Slabs | Packed]
    flat: Callable[[], np.ndarray]
    facts: Facts = NO_FACTS

    @property
    def numeric(self) -> bool:
        """Whether it holds real numbers."""
        try:
            return np.dtype(self.kind).kind in NUMERIC_KINDS
        except TypeError:
            return False

    @property
    def is_cube(self) -> bool:
        """Whether it has three axes of numbers, leading ones of length one left out."""
        return self.numeric and len(squeezed(self.shape)) == 3

    @property
    def is_matrix(self) -> bool:
        """Whether it has two axes of numbers, both longer than one."""
        return self.numeric and len(self.shape) == 2 and min(self.shape) > 1

    @property
    def n_values(self) -> int:
        """Product of the sizes."""
        return int(np.prod(self.shape, dtype=object)) if self.shape else 1

    @property
    def is_vector(self) -> bool:
        """Whether its numbers or truth values lie along one axis, and are no more than a camera may have bands."""
        holds_values = self.numeric or self.kind in TRUTH_KINDS
        return holds_values and bool(self.shape) and max(self.shape) == self.n_values and self.n_values <= VECTOR_VALUES


def read_cube(path: Path, form: Form, variables: Mapping[str, Variable]) -> StoredArray:
    """The cube among the variables of a file, with what the others say about it and the RGB picture that the form names."""
    known_nm = form.known_wavelengths_nm()
    n_bands = None if known_nm is None else len(known_nm) + len(form.drop_bands)
    name = choose_variable(path, form, variables, n_bands)
    array, axes = _cube(path, form, name, variables)
    n_stored = array.shape[axes.index("c")]
    facts = variables[name].facts
    gains = Gains(None, None, None)
    if form.scale is None and (facts.gain is not None or facts.offset is not None):
        gains = gains_of(path, facts.gain, facts.offset, n_stored)
    rgb = None if form.rgb_variable is None else _cube(path, form, form.rgb_variable, variables)[0]
    centres = _centres(path, form, name, variables, n_stored)
    fwhm = _vector(path, form, name, variables, ("fwhm",), n_stored)
    good = _vector(path, form, name, variables, GOOD_BAND_NAMES, n_stored) if form.bad_bands == "drop" else None
    is_good = None if good is None else np.asarray(good.flat(), np.float64)
    return StoredArray(
        array=array,
        axes=axes,
        files=(path,),
        centres=centres,
        fwhm=None if fwhm is None else tuple(float(w) for w in fwhm.flat()),
        fwhm_unit=None if fwhm is None else fwhm.facts.unit,
        scale=gains.scale,
        unit="reflectance" if facts.is_reflectance and form.scale is None else None,
        gain=gains.gain,
        offset=gains.offset,
        good_bands=None if is_good is None or not np.isin(is_good, (0, 1)).all() else is_good > 0,
        ignore_values=facts.ignore_values,
        rgb=rgb,
    )


def choose_variable(path: Path, form: Form, variables: Mapping[str, Variable], n_bands: int | None) -> str:
    """Name of the cube: the form's variable, else the 3-D numeric one, of several the one with n_bands bands; form.of_several
    decides about the rest. Where none has three axes, a matrix of bands and pixels is taken whose shape is known."""
    if form.variable is not None:
        return form.variable
    cubes = [n for n, v in variables.items() if v.is_cube and n != form.rgb_variable]
    if n_bands is not None:
        fitting = [n for n in cubes if squeezed(variables[n].shape)[form.axes.index("c")] == n_bands]
    else:
        fitting = [n for n in cubes if COLOURS not in squeezed(variables[n].shape)]
    size = form.shape or size_in(variables)
    matrices = [] if size is None else [n for n, v in variables.items() if v.is_matrix and size[0] * size[1] in v.shape]
    if n_bands is not None:
        matrices = [n for n in matrices if n_bands in variables[n].shape] or matrices
    # a matrix whose size is known is the image, unless an array of three axes fits better; pictures of three colours do not
    if matrices and (form.shape is not None or not fitting):
        cubes = matrices
    elif len(cubes) > 1 and n_bands is not None:
        cubes = fitting or cubes
    if cubes and form.of_several == "last":
        return cubes[-1]
    if len(cubes) != 1:
        may_be_matrix = not cubes and any(v.is_matrix for v in variables.values())
        advice = (
            "descriptor.shape to rows and columns, if a matrix of bands and pixels is meant"
            if may_be_matrix
            else "descriptor.variable"
        )
        raise RawFileError(
            f"{path}: {len(cubes)} {'matrices of bands and pixels' if matrices else 'three-dimensional numeric arrays'}, expected one; "
            f"it holds {listing(variables)}; set {advice}"
        )
    return cubes[0]


def listing(variables: Mapping[str, Variable]) -> str:
    """Names and shapes in one line."""
    shown = [f"{name} {'x'.join(map(str, v.shape)) or 'scalar'} {v.kind}" for name, v in variables.items()]
    more = f", ... ({len(shown) - SHOWN} more)" if len(shown) > SHOWN else ""
    return (", ".join(shown[:SHOWN]) or "nothing") + more


def size_in(variables: Mapping[str, Variable]) -> tuple[int, int] | None:
    """(rows, columns) that a file keeps as two numbers beside a matrix of bands and pixels (nRow, nCol and the like), or None."""
    numbers = {_last_name(n): v for n, v in variables.items() if v.numeric and v.n_values == 1}
    rows, columns = (
        next((float(numbers[n].flat()[0]) for n in names if n in numbers), 0.0) for names in (ROW_NAMES, COLUMN_NAMES)
    )
    sound = all(v.is_integer() and 0 < v < MOST_SIDE_PX for v in (rows, columns))
    return (int(rows), int(columns)) if sound else None


def find_centres(variables: Mapping[str, Variable], n_bands: int | None) -> dict[str, tuple[float, ...]]:
    """Variables that may hold band centres, in nm: believable ones that rise or fall, or are called so, which come first.

    n_bands : how many there have to be; None: any number above three
    """
    likely: dict[str, tuple[float, ...]] = {}
    for name, variable in sorted(variables.items(), key=lambda item: not is_centre_name(item[0])):
        wanted = variable.n_values == n_bands if n_bands else variable.n_values >= FEWEST_BANDS
        if not (variable.numeric and variable.is_vector and wanted) or OTHER_NAMES.search(_last_name(name)):
            continue
        try:
            values = band_centres(name, variable).in_nm()
        except ValueError:
            continue
        steps = np.diff(values)
        if is_centre_name(name) or not steps.size or max(np.mean(steps > 0), np.mean(steps < 0)) > MOSTLY:
            likely[name] = values
    return likely


def is_centre_name(name: str) -> bool:
    """Whether a variable is called like band centres."""
    own = _last_name(name)
    return CENTRE_NAMES.search(own) is not None and OTHER_NAMES.search(own) is None


def band_centres(name: str, variable: Variable) -> Centres:
    """The values of a vector as band centres. name: of the variable."""
    unit = variable.facts.unit or ("cm-1" if WAVENUMBERS.search(_last_name(name)) else None)
    return Centres(tuple(float(v) for v in variable.flat()), unit, f"variable {name!r}")


def of_attributes(owner: str, facts: Facts) -> dict[str, Variable]:
    """The vectors among an item's attributes as variables owner@attribute. owner: its path, "" for the file's own."""
    found = {}
    for name, (values, unit) in facts.vectors.items():
        array = np.asarray(values)
        found[f"{owner}@{name}"] = Variable(
            array.shape, "float64", False, partial(_view, array), partial(np.copy, array), Facts(unit=unit)
        )
    return found


def _view(array: np.ndarray, cube_shape: tuple[int, int, int]) -> Slabs:
    return MemoryArray(array.reshape(cube_shape))


def _cube(path: Path, form: Form, name: str, variables: Mapping[str, Variable]) -> tuple[Slabs | Packed, str]:
    """A variable as a cube in stored order, with the letters of its axes."""
    if name not in variables:
        raise RawFileError(f"{path}: no variable {name!r}; it holds {listing(variables)}; set descriptor.variable")
    chosen = variables[name]
    if not chosen.numeric:
        raise RawFileError(
            f"{path}: variable {name!r} has type {chosen.kind}, expected numbers; it holds {listing(variables)}; set descriptor.variable"
        )
    shape, axes = squeezed(chosen.shape), form.axes
    is_matrix = len(shape) == 2 and name != form.rgb_variable
    if is_matrix:
        shape, axes = _unfolded(path, form, name, shape, form.shape or size_in(variables))
    first, second, third = require_cube(path, f"variable {name!r}", shape, np.dtype(chosen.kind))
    if not chosen.reversed:
        return chosen.array((first, second, third)), axes
    if is_matrix and form.container != "matlab":
        # a matrix in column order whose pixels were counted along the rows all the same
        bands_first = axes[0] == "c"
        stored = (second, third, first) if bands_first else (third, first, second)
        return chosen.array(stored), axes[1:] + axes[0] if bands_first else axes[2] + axes[:2]
    return chosen.array((third, second, first)), axes[::-1]


def _unfolded(
    path: Path, form: Form, name: str, shape: tuple[int, ...], size: tuple[int, int] | None
) -> tuple[tuple[int, ...], str]:
    """Three sizes and axes of a matrix of bands and pixels; itself where no shape is known.

    The axis that has as many values as the image has pixels is split, into rows and columns in the order of the form's axes.
    """
    if size is None:
        return shape, form.axes
    n_px = size[0] * size[1]
    if n_px not in shape:
        raise RawFileError(
            f"{path}: {name!r} is a matrix of {shape[0]}x{shape[1]}, of which no side has the {n_px} pixels of {size[0]} rows "
            f"and {size[1]} columns; correct descriptor.shape"
        )
    order = form.axes.replace("c", "")
    sides = size if order == "yx" else size[::-1]
    bands_first = shape[1] == n_px and (shape[0] != n_px or form.axes[0] == "c")
    if bands_first:
        return (shape[0], *sides), "c" + order
    return (*sides, shape[1]), order + "c"


def _centres(path: Path, form: Form, cube: str, variables: Mapping[str, Variable], n_bands: int) -> Centres | None:
    """Those of the form's variable, else of the one vector that is called so, nearest to the cube in the file.

    A vector that is called so and cannot be believed is returned too, where there is no better one: why, is said then.
    """
    name = form.wavelength_variable
    if name is not None:
        if name in variables and variables[name].numeric and variables[name].is_vector:
            return band_centres(name, variables[name])
        if form.wavelengths_nm is None:
            raise RawFileError(
                f"{path}: no numeric vector {name!r} with the wavelengths; it holds {listing(variables)}; set descriptor.wavelength_variable"
            )
        return None
    called = [
        n for n, v in variables.items() if is_centre_name(n) and v.numeric and v.is_vector and v.n_values == n_bands
    ]
    likely = find_centres(variables, n_bands)
    believed = [n for n in called if n in likely]
    near = _nearest(believed or called, cube, form)
    if not near:
        return None
    centres = {n: band_centres(n, variables[n]) for n in near}
    first = next(iter(centres.values()))
    if believed and form.wavelengths_nm is None:
        nm = [c.in_nm() for c in centres.values()]
        if not all(np.allclose(nm[0], other, rtol=SAME_CENTRES) for other in nm):
            raise RawFileError(
                f"{path}: {' and '.join(near)} may hold the band centres; say which by descriptor.wavelength_variable"
            )
    return first


def _vector(
    path: Path, form: Form, cube: str, variables: Mapping[str, Variable], names: tuple[str, ...], n_bands: int
) -> Variable | None:
    """The vector that has one of these names and a value per band, nearest to the cube in the file."""
    called = [n for n, v in variables.items() if _last_name(n) in names and v.is_vector and v.n_values == n_bands]
    near = _nearest(called, cube, form)
    values = [np.asarray(variables[n].flat(), np.float64) for n in near]
    if any(not np.allclose(values[0], other) for other in values):
        raise RawFileError(
            f"{path}: {' and '.join(near)} differ, and either may be meant for {cube!r}; keep the one that counts in its group"
        )
    return variables[near[0]] if near else None


def _nearest(names: Sequence[str], cube: str, form: Form) -> list[str]:
    """Those of some variables that lie nearest to the cube: its attributes, its group, that of the centres, the root, elsewhere."""

    def distance(name: str) -> int:
        owner, at, _ = name.partition("@")
        group = owner.rpartition("/")[0]
        if at and owner == cube:
            return 0
        groups = [cube.rpartition("/")[0], (form.wavelength_variable or "").rpartition("/")[0], ""]
        return 1 + groups.index(group) if group in groups else 1 + len(groups)

    least = min((distance(n) for n in names), default=0)
    return [n for n in names if distance(n) == least]


def _last_name(name: str) -> str:
    """A variable's own name in small letters, without its groups."""
    return name.replace("@", "/").rsplit("/", 1)[-1].lower()
