"""The first line of an image: cheap to read, and equal where images are equal."""

from __future__ import annotations

import numpy as np

from hvlabel.readers.hsd import PcaArray
from hvlabel.readers.raw import RawImage
from hvlabel.readers.refusals import one_sentence
from hvlabel.readers.stored import Packed


def first_line(raw: RawImage) -> np.ndarray:
    """(W,) values of the upright image's first row in its first band; little more of the file is read than that takes.

    Row or column of the file, by quarter turns: 0 first row, 1 last column, 2 last row backwards, 3 first column backwards.
    """
    array, axes = raw.stored.array, raw.stored.axes
    n_columns, band = array.shape[axes.index("x")], int(raw.bands[0])
    columns = np.arange(n_columns)
    y, x = {
        0: (raw.rows[:1], columns),
        1: (raw.rows, columns[-1:]),
        2: (raw.rows[-1:], columns[::-1]),
        3: (raw.rows[::-1], columns[:1]),
    }[raw.rot90]
    where = {"c": np.array([band]), "y": y, "x": x}
    with one_sentence(raw.files[0]):
        if isinstance(array, Packed):
            flat = np.ravel_multi_index(np.ix_(*(where[a] for a in axes)), array.shape).ravel()
            parts: list[np.ndarray] = []
            for block in array.blocks():
                parts.append(block.reshape(-1))
                if sum(p.size for p in parts) > flat.max():
                    break
            return _of_band(raw, np.concatenate(parts)[flat])
        one_row = len(y) == 1
        letter = "c" if array.chunk is not None else "y" if one_row or isinstance(array, PcaArray) else "x"
        first, last = int(where[letter].min()), int(where[letter].max()) + 1
        block = array.read(axes.index(letter), first, last)
        where[letter] = where[letter] - first
        return _of_band(raw, block[np.ix_(*(where[a] for a in axes))].ravel())


def _of_band(raw: RawImage, values: np.ndarray) -> np.ndarray:
    """Values of the first band with its gain and offset applied."""
    if raw.gain is None or raw.offset is None:
        return values
    return values.astype(np.float32) * raw.gain[0, 0, 0] + raw.offset[0, 0, 0]
