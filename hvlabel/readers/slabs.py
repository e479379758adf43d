"""How a stored array is walked through within bounded memory: along which axis, in slabs how thick, unpacked first or not."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hvlabel.errors import RawFileError
from hvlabel.readers.hdf5 import Hdf5Array
from hvlabel.readers.stored import Packed, Slabs, StoredArray, unpack

SLAB_BYTES = 32 << 20  # large enough for the disk, small enough to stay in reused memory


def slab_axis(array: Slabs, axes: str) -> str:
    """The image axis along which slabs cost least: of chunked arrays the one with the smaller chunk rows, else the outer one."""
    outer, inner = (a for a in axes if a != "c")
    if array.chunk is None:
        return outer
    return min((outer, inner), key=lambda letter: _chunk_row_bytes(array, axes.index(letter)))


def slab_thickness(path: Path, array: Slabs, axis: int, side_px: int, memory_bytes: int) -> int:
    """Slab thickness in px along a stored axis: whole chunks, whole multiples of side_px where that is affordable.

    path : the raw file, for messages. RawFileError if the thinnest slab takes more than a quarter of memory_bytes.
    """
    chunk = _chunk_length(array, axis)
    one = _plane(array, axis) * array.dtype.itemsize
    unit = math.lcm(side_px, chunk)
    if unit * one > max(min(SLAB_BYTES, memory_bytes // 8), 2 * chunk * one) and chunk > 1:
        unit = chunk  # strips are cut across slabs then, and what is left over is carried
    needed = (unit if unit % side_px == 0 else unit + side_px) * one
    if needed > memory_bytes // 4:
        raise RawFileError(
            f"{path}: {max(unit, chunk)} rows or columns of all bands take {needed >> 20} MiB, more than a quarter of cube.memory_mib; raise it"
        )
    return unit * max(1, min(SLAB_BYTES, memory_bytes // 8) // (unit * one))


@contextmanager
def readable(stored: StoredArray, memory_bytes: int, scratch_folder: Path, threads: int) -> Iterator[Slabs]:
    """The stored array as slabs, unpacked if it has to be: in memory up to a quarter of memory_bytes, else in a file in scratch_folder.

    threads : that unpack HDF5 chunks side by side, at most. RawFileError if single chunks take too much memory.
    """
    array = stored.array
    if isinstance(array, Hdf5Array):
        letter = slab_axis(array, stored.axes)
        axis = stored.axes.index(letter)
        if array.chunk_bytes > memory_bytes // 4:
            raise RawFileError(
                f"{stored.files[0]}: one chunk {array.chunk} unpacks to {array.chunk_bytes >> 20} MiB, more than cube.memory_mib allows for; "
                "raise it or rewrite the file with h5repack"
            )
        array = replace(array, threads=max(1, min(threads, memory_bytes // 4 // array.chunk_bytes)))
        if _chunk_row_bytes(array, axis) > memory_bytes // 8:
            if _chunk_row_bytes(array, 0) > memory_bytes // 8:
                raise RawFileError(
                    f"{stored.files[0]}: chunks of {array.chunk} need {_chunk_row_bytes(array, 0) >> 20} MiB to be read once each, "
                    "more than an eighth of cube.memory_mib; raise it or rewrite the file with h5repack"
                )
            array = array.packed()
    if not isinstance(array, Packed):
        yield array
        return
    if array.nbytes <= memory_bytes // 4:
        yield unpack(array, stored.files[0], None)
        return
    with tempfile.NamedTemporaryFile(dir=scratch_folder, prefix="unpacked-") as scratch:
        yield unpack(array, stored.files[0], scratch.file)  # type: ignore[arg-type]


def _plane(array: Slabs, axis: int) -> int:
    return math.prod(n for k, n in enumerate(array.shape) if k != axis)


def _chunk_length(array: Slabs, axis: int) -> int:
    return 1 if array.chunk is None else min(array.chunk[axis], array.shape[axis])


def _chunk_row_bytes(array: Slabs, axis: int) -> int:
    """Bytes of all chunks that lie side by side across an axis."""
    return _chunk_length(array, axis) * _plane(array, axis) * array.dtype.itemsize
