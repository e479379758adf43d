"""Vectors with a value per band beside a cube: its band centres, widths and good bands, known by name and by place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.named.variable import Variable, last_name, listing
from hvlabel.wavelengths import Centres

FEWEST_BANDS = 4
MOST_SIDE_PX = 1_000_000
SAME_CENTRES = 1e-4  # relative; the same centres may be kept twice, once as float32
MOSTLY = 0.9  # centres rise or fall but where one spectrometer's range ends inside the next one's
# in small letters; "nm" only as a word of its own, not as in "environment"
CENTRE_NAMES = re.compile(r"wave|wvl|lambda|cent(re|er)|(^|[^a-z])nm($|[^a-z])")
OTHER_NAMES = re.compile(r"fwhm|width|good|bad|uncert|err|std|weight|flag|mask")  # of wavelengths, but no centres
WAVENUMBERS = re.compile(r"wave_?num")
WIDTH_NAMES = ("fwhm",)
GOOD_BAND_NAMES = ("bbl", "bad_band_list", "good_bands", "good_wavelengths", "goodbands")
ROW_NAMES = ("nrow", "nrows", "rows", "nlines", "lines", "height")
COLUMN_NAMES = ("ncol", "ncols", "cols", "columns", "nsamples", "samples", "width")


def centres_of(path: Path, form: Form, cube: str, variables: Mapping[str, Variable], n_bands: int) -> Centres | None:
    """Band centres of a cube: the form's variable, else the one vector that is called so, nearest to it in the file.

    A vector that is called so and cannot be believed is returned too, where there is no better one: why, is said then.
    RawFileError where the form names no vector, or where two that differ may be meant.
    """
    if form.wavelength_variable is not None:
        return _named_centres(path, form, form.wavelength_variable, variables)
    called = [name for name, v in variables.items() if is_called_centres(name, v, n_bands)]
    likely = likely_centres(variables, n_bands)
    believed = [name for name in called if name in likely]
    near = _nearest(believed or called, cube, form)
    if not near:
        return None
    # several are no harm as long as they agree: float and double, data set and attribute
    candidates = [band_centres(name, variables[name]) for name in near]
    if believed and form.wavelengths_nm is None:
        values_nm = [centres.in_nm() for centres in candidates]
        if not _are_alike(values_nm, rtol=SAME_CENTRES):
            raise RawFileError(
                f"{path}: {' and '.join(near)} may hold the band centres; say which by descriptor.wavelength_variable"
            )
    return candidates[0]


def _named_centres(path: Path, form: Form, name: str, variables: Mapping[str, Variable]) -> Centres | None:
    """Those of the form's own variable; None where it is no vector and the form gives centres itself."""
    variable = variables.get(name)
    if variable is not None and variable.is_numeric and variable.is_vector:
        return band_centres(name, variable)
    if form.wavelengths_nm is None:
        raise RawFileError(
            f"{path}: no numeric vector {name!r} with the wavelengths; it holds {listing(variables)}; "
            "set descriptor.wavelength_variable"
        )
    return None


def vector_of_bands(
    path: Path, form: Form, cube: str, variables: Mapping[str, Variable], names: tuple[str, ...], n_bands: int
) -> Variable | None:
    """The vector that has one of these names and a value per band, nearest to the cube in the file.

    RawFileError where several are equally near and differ.
    """
    called = []
    for name, variable in variables.items():
        if last_name(name) in names and variable.is_vector and variable.n_values == n_bands:
            called.append(name)
    near = _nearest(called, cube, form)
    if not _are_alike([np.asarray(variables[name].flat(), np.float64) for name in near]):
        raise RawFileError(
            f"{path}: {' and '.join(near)} differ, and either may be meant for {cube!r}; "
            "keep the one that counts in its group"
        )
    return variables[near[0]] if near else None


def likely_centres(variables: Mapping[str, Variable], n_bands: int | None) -> dict[str, tuple[float, ...]]:
    """Variables that may hold band centres, in nm: believable ones that rise or fall, or, first, are called so.

    n_bands : how many there have to be; None: any number above three
    """
    likely: dict[str, tuple[float, ...]] = {}
    for name in sorted(variables, key=lambda name: not is_centre_name(name)):
        variable = variables[name]
        fits = variable.n_values == n_bands if n_bands else variable.n_values >= FEWEST_BANDS
        # before values are read: most variables of a file are no vectors
        if not (fits and variable.is_numeric and variable.is_vector) or OTHER_NAMES.search(last_name(name)):
            continue
        try:
            values_nm = band_centres(name, variable).in_nm()
        except ValueError:
            continue
        if is_centre_name(name) or _mostly_rise_or_fall(values_nm):
            likely[name] = values_nm
    return likely


def is_centre_name(name: str) -> bool:
    """Whether a variable is called like band centres."""
    own_name = last_name(name)
    return CENTRE_NAMES.search(own_name) is not None and OTHER_NAMES.search(own_name) is None


def is_called_centres(name: str, variable: Variable, n_bands: int) -> bool:
    """Whether a vector with a value per band is called like band centres."""
    is_per_band = variable.is_numeric and variable.is_vector and variable.n_values == n_bands
    return is_per_band and is_centre_name(name)


def band_centres(name: str, variable: Variable) -> Centres:
    """The values of a vector as band centres. name: of the variable."""
    named_unit = "cm-1" if WAVENUMBERS.search(last_name(name)) else None
    return Centres(variable.values_as_float(), variable.facts.unit or named_unit, f"variable {name!r}")


def size_in(variables: Mapping[str, Variable]) -> tuple[int, int] | None:
    """(rows, columns) that a file keeps as two numbers beside a matrix of bands and pixels (nRow, nCol), or None."""
    numbers = {last_name(name): v for name, v in variables.items() if v.is_numeric and v.n_values == 1}
    rows = _first_number(numbers, ROW_NAMES)
    columns = _first_number(numbers, COLUMN_NAMES)
    for side in (rows, columns):
        if not (side.is_integer() and 0 < side < MOST_SIDE_PX):
            return None
    return int(rows), int(columns)


def _first_number(numbers: Mapping[str, Variable], names: Iterable[str]) -> float:
    """The value of the first name that is there, 0 if none is."""
    for name in names:
        if name in numbers:
            return float(numbers[name].flat()[0])
    return 0.0


def _mostly_rise_or_fall(values: Sequence[float]) -> bool:
    steps = np.diff(values)
    if not steps.size:
        return True
    rising = np.mean(steps > 0)
    falling = np.mean(steps < 0)
    return bool(max(rising, falling) > MOSTLY)


def _are_alike(vectors: Sequence[Sequence[float] | np.ndarray], rtol: float = 1e-5) -> bool:
    return all(np.allclose(vectors[0], other, rtol=rtol) for other in vectors)


def _nearest(names: Sequence[str], cube: str, form: Form) -> list[str]:
    """Those of some variables that lie nearest to the cube.

    Nearest are its attributes, then its group, the group of the form's centres, the root, and any other place.
    """
    if not names:
        return []
    groups = [_group(cube), _group(form.wavelength_variable or ""), ""]

    def distance(name: str) -> int:
        owner, at, _ = name.partition("@")
        if at and owner == cube:
            return 0
        group = _group(owner)
        return 1 + (groups.index(group) if group in groups else len(groups))

    least = min(map(distance, names))  # several may be equally near
    return [name for name in names if distance(name) == least]


def _group(name: str) -> str:
    return name.rpartition("/")[0]
