"""Sizes that a file claims: whether they are those of a cube, and whether the bytes that are there can hold them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.errors import RawFileError

# Deflate shrinks plain zeros 1030 times; a small file that claims nearly that much is damaged, hostile or empty.
PLAUSIBLE_RATIO = 900
HARMLESS_BYTES = 64 << 20  # whatever claims less may do so
NUMERIC_KINDS = "uif"
MAX_VALUE_BYTES = 8


def n_values(sizes: Iterable[int]) -> int:
    """Product of some sizes, exact however large they are."""
    return math.prod(int(size) for size in sizes)  # Python integers: a lying header may exceed 64 bit


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the axes of length one that are too many for three, the leading ones first."""
    return tuple(shape[axis] for axis in long_axes(shape))


def long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that `squeezed` leaves of a shape."""
    axes = list(range(len(shape)))
    while len(axes) > 3:
        short = [axis for axis in axes if shape[axis] == 1]
        if not short:
            break
        axes.remove(short[0])
    return tuple(axes)


def require_cube(path: Path, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int, int]:
    """The shape, if it is that of a 3-D numeric array. path, what: the file and the array in it, for messages."""
    if len(shape) != 3 or 0 in shape:
        raise RawFileError(
            f"{path}: {what} has shape {shape}, expected three axes (row, column, band); name another variable or file"
        )
    if dtype.kind not in NUMERIC_KINDS or dtype.itemsize > MAX_VALUE_BYTES:
        raise RawFileError(
            f"{path}: {what} has type {dtype}, expected numbers of at most 64 bit; name another variable or file"
        )
    first, second, third = (int(n) for n in shape)
    return first, second, third


def require_plausible(path: Path, what: str, shape: tuple[int, ...], itemsize: int, stored_bytes: int) -> None:
    """Refuse an array that claims far more than its stored bytes can hold; nothing is allocated before."""
    claimed = n_values(shape) * itemsize
    if claimed > HARMLESS_BYTES and claimed > PLAUSIBLE_RATIO * stored_bytes:
        raise RawFileError(
            f"{path}: {what} claims {'x'.join(map(str, shape))} values ({claimed} bytes) out of {stored_bytes} "
            "stored bytes; the file is damaged or hostile, copy it again"
        )
