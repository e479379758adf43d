"""Frames of snapshot cameras as grey PNGs: a filter mosaic lies over the sensor, one band per pixel of its pattern."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.arrays import MemoryArray
from hvlabel.readers.contract import Certainty, Look, StoredArray
from hvlabel.readers.guesses import guess_centres
from hvlabel.readers.pictures import read_grey

MAGIC = b"\x89PNG"
SIDES_PX = range(2, 9)  # patterns that are made


def read(path: Path, form: Form) -> StoredArray:
    """(m*m, H/m, W/m) cube of a frame; band = row in the pattern * m + column. No interpolation."""
    side = form.mosaic_px
    assert side is not None  # the form's validator
    frame = read_grey(path)
    height, width = frame.shape
    n_rows, n_columns = height // side, width // side
    if min(n_rows, n_columns) < 1:
        raise RawFileError(
            f"{path}: {width}x{height} px is smaller than one {side}x{side} pattern; check descriptor.mosaic_px"
        )
    # a sensor may end within a pattern
    whole_patterns = frame[: n_rows * side, : n_columns * side]
    tiles = whole_patterns.reshape(n_rows, side, n_columns, side)
    by_band = tiles.transpose(1, 3, 0, 2)  # (side, side, rows, columns): bands in pixel order, row by row
    cube = by_band.reshape(side * side, n_rows, n_columns)
    return StoredArray(MemoryArray(cube), "cyx", (path,))


def look(path: Path) -> Look:
    """The side of the pattern is measured; which band is which, nothing in the file says."""
    frame = read_grey(path)
    side = mosaic_side_px(frame)
    look = Look(knows_axes=True)
    look.holds.append(f"a grey picture of {frame.shape[1]}x{frame.shape[0]} px, {frame.dtype}")
    look.settings["mosaic_px"] = side
    look.questions.append(
        f"is this a snapshot mosaic, and is its pattern {side}x{side}? The pixels repeat at that distance"
    )
    guess_centres(look, side * side)
    look.questions.append(
        "mosaics are rarely sorted by wavelength: give the centres in pixel order, row by row of the pattern"
    )
    return look


def recognises(path: Path, head: bytes) -> Certainty:
    """Any PNG: whether it is a mosaic, only a person can say."""
    return Certainty.MAGIC if head.startswith(MAGIC) else Certainty.NONE


def mosaic_side_px(frame: np.ndarray) -> int:
    """Side of the pattern of a frame: the distance at which pixels are most alike, since they have the same filter."""
    values = frame.astype(np.float32)  # differences of unsigned numbers would wrap around

    def change(distance_px: int) -> float:
        down = values[distance_px:] - values[:-distance_px]
        across = values[:, distance_px:] - values[:, :-distance_px]
        return float(np.abs(down).mean() + np.abs(across).mean())

    possible = [side for side in SIDES_PX if min(frame.shape) > 2 * side]
    return min(possible, key=change) if possible else SIDES_PX[0]
