"""Which of a file's named arrays is the cube, and that array as the readers' contract asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.contract import Stored, StoredArray
from hvlabel.readers.gains import NO_GAINS, Gains, gains_of
from hvlabel.readers.named.facts import Facts
from hvlabel.readers.named.variable import Variable, listing
from hvlabel.readers.named.vectors import GOOD_BAND_NAMES, WIDTH_NAMES, centres_of, size_in, vector_of_bands
from hvlabel.readers.sizes import require_cube, squeezed

COLOURS = 3  # an array with this many values on an axis may be a picture


def read_cube(path: Path, form: Form, variables: Mapping[str, Variable]) -> StoredArray:
    """The cube among the variables of a file, what the others say about it, and the RGB picture that the form names."""
    # the form's centres tell which array is meant, and which of its axes counts the bands
    known_nm = form.known_wavelengths_nm()
    n_bands = None if known_nm is None else len(known_nm) + len(form.drop_bands)
    name = choose_variable(path, form, variables, n_bands)
    array, axes = _opened(path, form, name, variables)
    n_stored = array.shape[axes.index("c")]
    facts = variables[name].facts
    gains = _gains(path, form, facts, n_stored)
    rgb = None
    if form.rgb_variable is not None:
        rgb, _ = _opened(path, form, form.rgb_variable, variables)
    centres = centres_of(path, form, name, variables, n_stored)
    fwhm = vector_of_bands(path, form, name, variables, WIDTH_NAMES, n_stored)
    good = None
    if form.bad_bands == "drop":
        good = vector_of_bands(path, form, name, variables, GOOD_BAND_NAMES, n_stored)
    makes_reflectance = facts.is_reflectance and form.scale is None
    return StoredArray(
        array=array,
        axes=axes,
        files=(path,),
        centres=centres,
        fwhm=None if fwhm is None else fwhm.values_as_float(),
        fwhm_unit=None if fwhm is None else fwhm.facts.unit,
        scale=gains.scale,
        unit="reflectance" if makes_reflectance else None,
        gain=gains.gain,
        offset=gains.offset,
        good_bands=None if good is None else _truths(good),
        ignore_values=facts.ignore_values,
        rgb=rgb,
    )


def choose_variable(path: Path, form: Form, variables: Mapping[str, Variable], n_bands: int | None) -> str:
    """Name of the cube; RawFileError where none or several may be it.

    The form's variable, else the 3-D numeric one, of several the one with n_bands bands; form.of_several decides about
    the rest. Where none has three axes, a matrix of bands and pixels is taken whose shape is known.
    """
    if form.variable is not None:
        return form.variable
    cubes = [name for name, v in variables.items() if v.is_cube and name != form.rgb_variable]
    fitting = [name for name in cubes if _may_have(n_bands, squeezed(variables[name].shape), form)]
    matrices = _matrices(form, variables, n_bands)
    # a matrix whose size is known is the image, unless an array of three axes fits better, which pictures do not
    takes_matrix = bool(matrices) and (form.shape is not None or not fitting)
    candidates = cubes  # all of them, so that a refusal says how many there are
    if takes_matrix:
        candidates = matrices
    elif len(cubes) > 1 and n_bands is not None:
        candidates = fitting or cubes
    if candidates and form.of_several == "last":
        return candidates[-1]
    if len(candidates) == 1:
        return candidates[0]
    kinds = "matrices of bands and pixels" if matrices else "three-dimensional numeric arrays"
    advice = "descriptor.variable"
    if not candidates and any(v.is_matrix for v in variables.values()):
        advice = "descriptor.shape to rows and columns, if a matrix of bands and pixels is meant"
    raise RawFileError(f"{path}: {len(candidates)} {kinds}, expected one; it holds {listing(variables)}; set {advice}")


def _may_have(n_bands: int | None, shape: tuple[int, ...], form: Form) -> bool:
    """Whether a shape has the bands that are expected, or, where no number is, is no picture of three colours."""
    if n_bands is None:
        return COLOURS not in shape
    return shape[form.axes.index("c")] == n_bands


def _matrices(form: Form, variables: Mapping[str, Variable], n_bands: int | None) -> list[str]:
    """Matrices of bands and pixels; of several those with n_bands bands, if there are any."""
    size = form.shape or size_in(variables)
    if size is None:
        return []
    n_px = size[0] * size[1]
    matrices = [name for name, v in variables.items() if v.is_matrix and n_px in v.shape]
    if n_bands is None:
        return matrices
    return [name for name in matrices if n_bands in variables[name].shape] or matrices


def _gains(path: Path, form: Form, facts: Facts, n_bands: int) -> Gains:
    """Of the cube's attributes, unless the form says what its values mean."""
    is_said = facts.gain is not None or facts.offset is not None
    if form.scale is not None or not is_said:
        return NO_GAINS
    return gains_of(path, facts.gain, facts.offset, n_bands)


def _truths(good: Variable) -> np.ndarray | None:
    """(C,) bool of a vector of zeros and ones; None for other numbers: a list of band indices may be called so too."""
    values = np.asarray(good.flat(), np.float64)
    are_truths = np.isin(values, (0, 1)).all()
    return values > 0 if are_truths else None


def _opened(path: Path, form: Form, name: str, variables: Mapping[str, Variable]) -> tuple[Stored, str]:
    """A variable as a cube in stored order, with the letters of its axes."""
    if name not in variables:
        raise RawFileError(f"{path}: no variable {name!r}; it holds {listing(variables)}; set descriptor.variable")
    chosen = variables[name]
    if not chosen.is_numeric:
        raise RawFileError(
            f"{path}: variable {name!r} has type {chosen.kind}, expected numbers; it holds {listing(variables)}; "
            "set descriptor.variable"
        )
    shape = squeezed(chosen.shape)
    axes = form.axes
    is_matrix = len(shape) == 2 and name != form.rgb_variable  # a picture is never unfolded
    if is_matrix:
        shape, axes = _unfolded(path, form, name, shape, form.shape or size_in(variables))
    first, second, third = require_cube(path, f"variable {name!r}", shape, np.dtype(chosen.kind))
    if not chosen.reversed:
        return chosen.array((first, second, third)), axes
    if is_matrix and form.container != "matlab":
        # a matrix in column order whose pixels were counted along the rows all the same: only pixels and bands change
        # places, rows and columns keep theirs
        bands_first = axes[0] == "c"
        if bands_first:
            return chosen.array((second, third, first)), axes[1:] + axes[0]
        return chosen.array((third, first, second)), axes[2] + axes[:2]
    # column-major numbers read row by row are the array with its axes in reverse
    return chosen.array((third, second, first)), axes[::-1]


def _unfolded(
    path: Path, form: Form, name: str, shape: tuple[int, ...], size: tuple[int, int] | None
) -> tuple[tuple[int, ...], str]:
    """Three sizes and axes of a matrix of bands and pixels; itself where no size of the image is known.

    The axis that has as many values as the image has pixels is split, into rows and columns in the order of the form.
    """
    if size is None:
        return shape, form.axes
    n_rows, n_columns = size
    n_px = n_rows * n_columns
    if n_px not in shape:
        raise RawFileError(
            f"{path}: {name!r} is a matrix of {shape[0]}x{shape[1]}, of which no side has the {n_px} pixels of "
            f"{n_rows} rows and {n_columns} columns; correct descriptor.shape"
        )
    order = form.axes.replace("c", "")  # in which rows and columns were counted
    sides = (n_rows, n_columns) if order == "yx" else (n_columns, n_rows)
    both_fit = shape[0] == n_px and shape[1] == n_px  # as many bands as pixels: the form's axes decide
    bands_first = form.axes[0] == "c" if both_fit else shape[1] == n_px
    if bands_first:
        return (shape[0], *sides), "c" + order
    return (*sides, shape[1]), order + "c"
