"""How a stored array is cut into slabs within bounded memory: along which axis, and how thick. Pure integers."""

from __future__ import annotations

import math
from pathlib import Path

from hvlabel.errors import RawFileError
from hvlabel.readers.contract import Slabs

SLAB_BYTES = 32 << 20  # large enough for the disk, small enough to stay in reused memory


def image_axes(axes: str) -> tuple[int, int]:
    """Stored axes of rows and columns, the outer one first. axes: their letters in stored order."""
    outer, inner = (axis for axis, letter in enumerate(axes) if letter != "c")
    return outer, inner


def slab_axis(array: Slabs, candidates: tuple[int, int]) -> int:
    """The axis along which slabs cost least: of chunked arrays the one with the smaller chunk rows, else the outer one.

    candidates : the image axes, the outer one first
    """
    possible = [axis for axis in candidates if axis in array.cut_axes]
    if array.chunk is None:
        return possible[0]  # slabs along the outer axis are few long runs in the file
    return min(possible, key=lambda axis: chunk_row_bytes(array, axis))


def slab_thickness(path: Path, array: Slabs, axis: int, side_px: int, memory_bytes: int) -> int:
    """Slab thickness in px along an axis: whole chunks, whole multiples of side_px where that is affordable.

    path : the raw file, for messages. RawFileError if the thinnest slab takes more than a quarter of memory_bytes.
    """
    chunk_px = _chunk_length(array, axis)
    plane_bytes = _plane_bytes(array, axis)
    slab_bytes = min(SLAB_BYTES, memory_bytes // 8)  # one slab, its predecessor and what is carried fit in half
    unit_px = math.lcm(side_px, chunk_px)
    if chunk_px > 1 and unit_px * plane_bytes > max(slab_bytes, 2 * chunk_px * plane_bytes):
        unit_px = chunk_px  # strips are cut across slabs then, and what is left over is carried
    carried_px = 0 if unit_px % side_px == 0 else side_px
    needed_bytes = (unit_px + carried_px) * plane_bytes
    if needed_bytes > memory_bytes // 4:
        raise RawFileError(
            f"{path}: {max(unit_px, chunk_px)} rows or columns of all bands take {needed_bytes >> 20} MiB, "
            "more than a quarter of cube.memory_mib; raise it"
        )
    n_units = slab_bytes // (unit_px * plane_bytes)
    return unit_px * max(1, n_units)


def chunk_row_bytes(array: Slabs, axis: int) -> int:
    """Bytes of all chunks that lie side by side across an axis: what is in memory if each chunk is read once only."""
    return _chunk_length(array, axis) * _plane_bytes(array, axis)


def _chunk_length(array: Slabs, axis: int) -> int:
    if array.chunk is None:
        return 1
    return min(array.chunk[axis], array.shape[axis])  # a chunk may be larger than its array


def _plane_bytes(array: Slabs, axis: int) -> int:
    """Bytes of a slab of thickness one."""
    others = (n for k, n in enumerate(array.shape) if k != axis)
    return math.prod(others) * array.dtype.itemsize
