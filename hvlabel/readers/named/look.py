"""A look at a file of named arrays: which may be the image, and what may hold its band centres."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hvlabel.errors import RawFileError
from hvlabel.readers.contract import Look
from hvlabel.readers.guesses import guess_axes, guess_centres, square
from hvlabel.readers.named.cube import COLOURS
from hvlabel.readers.named.variable import Variable, shown
from hvlabel.readers.named.vectors import band_centres, is_called_centres, is_centre_name, likely_centres, size_in
from hvlabel.readers.sizes import squeezed

LISTED = 40

Variables = Mapping[str, Variable]


def look_at_variables(path: Path, variables: Variables) -> Look:
    """A listing, and the settings that read the likeliest image; RawFileError where nothing can be one."""
    look = Look()
    for name, variable in list(variables.items())[:LISTED]:
        look.holds.append(shown(name, ": ", variable))
    if len(variables) > LISTED:
        look.holds.append(f"... and {len(variables) - LISTED} more")
    cubes = [name for name, v in variables.items() if v.is_cube and 0 not in v.shape]  # an empty one is no image
    # with more than one array of three axes, those of three colours are pictures of the image
    pictures = [name for name in cubes if len(cubes) > 1 and COLOURS in variables[name].shape]
    candidates = [name for name in cubes if name not in pictures] or cubes  # all may have three bands
    only_pictures = all(COLOURS in squeezed(variables[name].shape) for name in cubes)
    if not candidates or (only_pictures and _has_matrix_of_known_size(variables)):
        _take_matrix(path, variables, look)
    else:
        _take_cube(variables, candidates, pictures, look)
    return look


def _has_matrix_of_known_size(variables: Variables) -> bool:
    size = size_in(variables)
    if size is None:
        return False
    n_px = size[0] * size[1]
    return any(v.is_matrix and n_px in v.shape for v in variables.values())


def _take_cube(variables: Variables, candidates: Sequence[str], pictures: Sequence[str], look: Look) -> None:
    """An array of three axes as the image: the first with band centres for one of its axes, else the largest."""
    centres = likely_centres(variables, None)
    shapes = {name: squeezed(variables[name].shape) for name in candidates}

    def vectors_of(name: str) -> list[str]:
        return [vector for vector, values_nm in centres.items() if len(values_nm) in shapes[name]]

    # a vector of centres as long as one of its axes speaks for an array more than its size does
    fitting = [name for name in candidates if vectors_of(name)]
    largest = max(candidates, key=lambda name: math.prod(variables[name].shape))
    name = fitting[0] if fitting else largest
    vectors = vectors_of(name)
    if len(candidates) > 1:  # taken all the same: a descriptor to start from is better than none
        look.questions.append(f"which array is the image: {', '.join(candidates)}? Taken: {name}")
    look.settings["variable"] = name
    n_centres = len(centres[vectors[0]]) if vectors else None
    axes = guess_axes(look, shapes[name], n_centres)
    look.settings["axes"] = axes
    band_axis = axes.index("c")
    if vectors:
        _take_centres(vectors, look)
    else:
        n_bands = shapes[name][band_axis]
        guess_centres(look, n_bands, *_why_not_believed(variables, n_bands))
    _take_picture(variables, pictures, band_axis, look)


def _take_picture(variables: Variables, pictures: Sequence[str], band_axis: int, look: Look) -> None:
    """The first array of three colours on the axis of the bands as the RGB picture."""
    for name in pictures:
        if variables[name].shape[band_axis] == COLOURS:
            look.settings["rgb_variable"] = name
            look.questions.append(
                f"is {name} an RGB picture of the same view? Else drop `rgb_variable`; if it is turned, set `rgb_rot90`"
            )
            return


def _why_not_believed(variables: Variables, n_bands: int) -> list[str]:
    """Why a vector that is called like band centres is not taken for them, if there is one."""
    for name, variable in variables.items():
        if is_called_centres(name, variable, n_bands):
            try:
                band_centres(name, variable).in_nm()
            except ValueError as error:
                return [f"Those of the file cannot be believed ({error})"]
    return []


def _take_centres(names: Sequence[str], look: Look) -> None:
    """The first of some vectors as band centres, with what to ask about them."""
    chosen = names[0]
    look.settings["wavelength_variable"] = chosen
    if not is_centre_name(chosen):
        look.questions.append(
            f"does {chosen} hold the band centres? It has as many values; else drop `wavelength_variable`"
        )
    if len(names) > 1:
        look.questions.append(f"which vector holds the band centres: {', '.join(names)}? Taken: {chosen}")


def _take_matrix(path: Path, variables: Variables, look: Look) -> None:
    """A matrix of bands and pixels as the image: its size stands in two numbers of the file, or a square is guessed."""
    size = size_in(variables)
    matrices = [(name, v) for name, v in variables.items() if v.is_matrix]
    # the largest first: tables of numbers beside the image are small
    for name, variable in sorted(matrices, key=lambda item: -item[1].n_values):
        is_known = size is not None and size[0] * size[1] in variable.shape
        shape = size if is_known else square(variable.shape)
        if shape is None:
            continue
        n_rows, n_columns = shape
        n_px = n_rows * n_columns
        n_bands = variable.n_values // n_px  # the other side
        look.settings |= {"variable": name, "shape": [n_rows, n_columns]}
        source = "as the file's own numbers say" if shape == size else "a square, guessed"
        look.questions.append(
            f"is {name} a matrix of {n_bands} bands and {n_px} pixels of {n_rows} rows and {n_columns} columns "
            f"({source})? Else correct `shape`; if the picture is scrambled, set axes: xyc"
        )
        vectors = list(likely_centres(variables, n_bands))
        if vectors:
            _take_centres(vectors, look)
        else:
            guess_centres(look, n_bands)
        return
    raise RawFileError(
        f"{path}: holds no three-dimensional array of numbers ({'; '.join(look.holds) or 'nothing'}); name another "
        "file, or set descriptor.shape to the rows and columns of a matrix of bands and pixels"
    )
