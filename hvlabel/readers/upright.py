"""How a stored array becomes the upright cube: its axes in order, bands and rows left out, quarter turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# what quarter turns do: stored image axes that are walked backwards to go forwards in the upright image
BACKWARDS = {0: "", 1: "x", 2: "xy", 3: "y"}


@dataclass(frozen=True)
class Upright:
    """The way from stored order to (C, H, W).

    axes        : letters of the stored axes in their order
    bands, rows : indices of the bands and of the stored rows kept, rising
    rot90       : quarter turns counter-clockwise
    """

    axes: str
    bands: np.ndarray
    rows: np.ndarray
    rot90: int

    def axis(self, letter: str) -> int:
        """The stored axis of a letter."""
        return self.axes.index(letter)

    def shape(self, stored_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the upright cube."""
        n_columns = stored_shape[self.axis("x")]
        n_rows = len(self.rows)
        height, width = (n_columns, n_rows) if self.is_turned else (n_rows, n_columns)
        return len(self.bands), height, width

    @property
    def is_turned(self) -> bool:
        """Whether stored rows are upright columns."""
        return self.rot90 % 2 == 1

    def upright_axis(self, letter: str) -> int:
        """Axis of the upright cube along which a stored image axis runs: 1 down, 2 across."""
        return 1 if (letter == "y") != self.is_turned else 2

    def is_backwards(self, letter: str) -> bool:
        """Whether a stored image axis has to be walked backwards to go forwards in the upright image."""
        return letter in BACKWARDS[self.rot90]

    def of_slab(self, slab: np.ndarray, letter: str, start: int, stop: int) -> np.ndarray:
        """(C, rows, columns) of a slab in stored order; a view where that suffices.

        letter, start, stop : which part of which image axis the slab is
        """
        cube = slab.transpose([self.axis(a) for a in "cyx"])
        if len(self.bands) != cube.shape[0]:
            cube = cube[_as_slice(self.bands)]
        if letter == "y":
            first_row, n_rows = start, stop - start
        else:
            first_row, n_rows = 0, cube.shape[1]
        # rows of the whole image that lie in this slab, counted from its first
        is_inside = (self.rows >= first_row) & (self.rows < first_row + n_rows)
        kept = self.rows[is_inside] - first_row
        if len(kept) != n_rows:  # else a copy for nothing
            cube = cube[:, kept]
        return np.rot90(cube, self.rot90, axes=(1, 2))

    def first_row(self, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Stored rows and columns whose crossings are the upright image's first row, one of them a single one."""
        columns = np.arange(n_columns)
        match self.rot90:
            case 0:
                return self.rows[:1], columns
            case 1:
                return self.rows, columns[-1:]  # the last column becomes the first row
            case 2:
                return self.rows[-1:], columns[::-1]
            case _:
                return self.rows[::-1], columns[:1]


def _as_slice(indices: np.ndarray) -> slice | np.ndarray:
    """Indices as a slice, which makes a view, if they follow one another."""
    first = int(indices[0])
    last = int(indices[-1])
    follow = last - first + 1 == len(indices)
    return slice(first, last + 1) if follow else indices
