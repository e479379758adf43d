"""The first line of an image: cheap to read, and equal where images are equal."""

from __future__ import annotations

import numpy as np

from hvlabel.readers.raw import RawImage
from hvlabel.readers.refusals import one_sentence


def first_line(raw: RawImage) -> np.ndarray:
    """(W,) values of the upright image's first row in its first band; little more of the file is read than it takes."""
    array, upright = raw.stored.array, raw.upright
    n_columns = array.shape[upright.axis("x")]
    rows, columns = upright.first_row(n_columns)
    where = {"c": raw.bands[:1], "y": rows, "x": columns}
    letter = _cheapest_cut(raw, is_row=len(rows) == 1)
    with one_sentence(raw.files[0]):
        first, second, third = (where[a] for a in upright.axes)
        values = array.pick(upright.axis(letter), (first, second, third))
    if raw.gain is None or raw.offset is None:
        return values
    # as in RawImage.strips: equal images must have equal lines, whoever applied their gains
    gain, offset = raw.gain[0, 0, 0], raw.offset[0, 0, 0]  # of the first band
    return values.astype(np.float32) * gain + offset


def _cheapest_cut(raw: RawImage, *, is_row: bool) -> str:
    """Letter of the axis along which one slab holds the line.

    is_row : the line is a stored row, else a stored column
    """
    array = raw.stored.array
    if array.chunk is not None:
        return "c"  # chunks mostly hold few bands and many pixels
    can_cut_columns = raw.upright.axis("x") in array.cut_axes
    return "y" if is_row or not can_cut_columns else "x"
