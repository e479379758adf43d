"""The upright cube strip by strip, from the slabs of a stored array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvlabel.readers.contract import Slabs
from hvlabel.readers.slabs import image_axes, slab_axis, slab_thickness
from hvlabel.readers.upright import Upright


@dataclass(frozen=True)
class Strip:
    """A strip of an upright cube across its whole height or width.

    axis   : 1 if it is a range of rows, 2 if it is a range of columns
    start  : first row or column
    values : (C, rows, columns), any memory order, byte order as stored
    """

    axis: int
    start: int
    values: np.ndarray

    def part_of(self, whole: np.ndarray) -> np.ndarray:
        """The place of this strip in a whole cube, a view."""
        stop = self.start + self.values.shape[self.axis]
        if self.axis == 1:
            return whole[:, self.start : stop]
        return whole[:, :, self.start : stop]


def strips_of(
    path: Path,
    array: Slabs,
    upright: Upright,
    measured: Callable[[np.ndarray], np.ndarray],
    side_px: int,
    memory_bytes: int,
) -> Iterator[Strip]:
    """Strips of whole multiples of side_px, but for the last, all along the same axis.

    path     : the raw file, for messages
    measured : from stored values to those of the cube, (C, rows, columns) both

    Slabs are as thick as suits the file, strips as suits the chunks of the cube. What a slab has too much for whole
    strips is `carried` to the next. Fresh memory costs as much as filling it, so slabs are read into memory that is
    `spare`: a slab that nobody looks at any more. One whose strip was just handed out is only `lent`: the strip may be
    a view of it, and whoever took it is done with it when the strip after the next is asked for.
    """
    axis = slab_axis(array, image_axes(upright.axes))
    letter = upright.axes[axis]
    upright_axis = upright.upright_axis(letter)
    thickness = slab_thickness(path, array, axis, side_px, memory_bytes)
    starts = range(0, array.shape[axis], thickness)
    carried: np.ndarray | None = None
    lent: np.ndarray | None = None
    spare: np.ndarray | None = None
    n_done = 0  # rows or columns of the upright cube
    for start in reversed(starts) if upright.is_backwards(letter) else starts:
        stop = min(start + thickness, array.shape[axis])
        slab = array.read(axis, start, stop, reuse=spare)
        block = measured(upright.of_slab(slab, letter, start, stop))
        if carried is not None:
            block = np.concatenate([carried, block], axis=upright_axis)
        n_ready = block.shape[upright_axis]
        n_whole = n_ready - n_ready % side_px
        values, rest = np.split(block, [n_whole], axis=upright_axis)
        if n_whole:
            yield Strip(upright_axis, n_done, values)
            n_done += n_whole
        carried = rest.copy() if rest.shape[upright_axis] else None  # a copy: its slab will be read into again
        if n_whole and np.may_share_memory(block, slab):
            spare, lent = lent, slab
        elif n_whole:  # the strip is a copy; the one before, if it is a view, is done with once this one was taken
            spare, lent = slab, None
        else:  # no strip was taken, so the last one may still be looked at
            spare = slab
    if carried is not None:
        yield Strip(upright_axis, n_done, carried)
