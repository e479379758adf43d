"""What is guessed of a file that has no descriptor, and the questions that go with each guess.

The readers' `look` is made of these.
"""

from __future__ import annotations

import math

from hvlabel.readers.contract import Look, StoredArray

GUESSED_RANGE_NM = (400.0, 1000.0)
LEAST_SQUARE_PX = 8  # side of a matrix of pixels that is guessed to be a square


def look_at_array(stored: StoredArray, *, knows_axes: bool = True) -> Look:
    """Of a container that holds one array.

    knows_axes : its own axes are certain; else they are guessed from the sizes
    """
    look = Look(knows_axes=knows_axes)
    describe_array(look, stored, stored.array.shape)
    return look


def describe_array(look: Look, stored: StoredArray, shape: tuple[int, int, int], *, remark: str | None = None) -> None:
    """Add to a look what can be said of one array. shape: its sizes as the file's own tools show them."""
    look.holds.append(f"one array: {'x'.join(map(str, shape))} {stored.array.dtype}")
    if remark is not None:
        look.holds.append(remark)
    has_shape = "shape" in look.settings  # of a matrix: which axis is which follows from it
    if not look.knows_axes and not has_shape:
        n_centres = None if stored.centres is None else len(stored.centres.values)
        look.settings["axes"] = guess_axes(look, shape, n_centres)
    axes = look.settings.get("axes", stored.axes)
    n_bands = shape[axes.index("c")]
    if stored.centres is None:
        guess_centres(look, n_bands)
        return
    try:
        stored.centres.in_nm()  # as they will be asked for when the file is read
    except ValueError as error:
        guess_centres(look, n_bands, f"Those of the file cannot be believed ({error})")


def guess_centres(look: Look, n_bands: int, why: str = "The file does not say") -> None:
    """Put invented band centres into a look, called placeholders.

    why : no better ones are taken, a sentence without its dot
    """
    start_nm, stop_nm = GUESSED_RANGE_NM
    look.settings["wavelengths_nm"] = {"start_nm": start_nm, "stop_nm": stop_nm, "count": n_bands}
    look.settings["wavelength_confidence"] = "placeholder"
    look.questions.append(
        f"what are the {n_bands} band centres? {why}; {start_nm:g}-{stop_nm:g} nm is invented: correct `wavelengths_nm`"
    )


def guess_axes(look: Look, shape: tuple[int, ...], n_bands: int | None) -> str:
    """Axis letters of three sizes. The axis of n_bands counts the bands; else one is guessed, which is a question."""
    if n_bands is not None and shape.count(n_bands) == 1:
        band_axis = shape.index(n_bands)
    else:
        band_axis = _likely_band_axis(shape)
        look.questions.append(
            f"which of {'x'.join(map(str, shape))} counts the bands? Taken: {shape[band_axis]}; else change `axes`"
        )
    letters = ["y", "x"]
    letters.insert(band_axis, "c")
    return "".join(letters)


def square(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Rows and columns of a matrix whose longer side is a square number, or None."""
    n_px = max(shape)
    side = math.isqrt(n_px)
    is_square = side >= LEAST_SQUARE_PX and side * side == n_px
    return (side, side) if is_square and n_px > min(shape) else None


def _likely_band_axis(shape: tuple[int, ...]) -> int:
    """Images are often square, and have more pixels along a side than bands."""
    if len(set(shape)) == 2:
        singles = (axis for axis in range(3) if shape.count(shape[axis]) == 1)
        return next(singles)
    smallest = min(shape)
    # of equal ones the last: most files end in the bands
    return max(axis for axis in range(3) if shape[axis] == smallest)
