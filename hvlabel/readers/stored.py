"""Arrays as they lie in raw files: readable in slabs, or packed so that they must be unpacked once from front to back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from hvlabel.errors import RawFileError
from hvlabel.readers.georeference import Georeference
from hvlabel.wavelengths import Centres

# Deflate shrinks plain zeros 1030 times; a small file that claims nearly that much is damaged, hostile or empty.
PLAUSIBLE_RATIO, HARMLESS_BYTES = 900, 64 << 20
NUMERIC_KINDS = "uif"


class Slabs(Protocol):
    """A 3-D array in a file.

    chunk : sizes of the pieces that can only be read whole, or None if any part can be read
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sizes in stored order."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type and byte order as stored."""

    @property
    def chunk(self) -> tuple[int, int, int] | None:
        """See above."""

    def read(self, axis: int, start: int, stop: int, reuse: np.ndarray | None = None) -> np.ndarray:
        """[start, stop) of one axis, everything of the other two.

        reuse : what an earlier call returned and nobody needs any more: fresh memory costs as much as filling it
        """


@dataclass(frozen=True)
class Packed:
    """A 3-D array that can only be read from front to back.

    blocks : yields consecutive pieces of it in C order, of any shape; raises at the latest at the end if the file is damaged
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterator[np.ndarray]]

    @property
    def nbytes(self) -> int:
        """Unpacked size."""
        return _product(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class MemoryArray:
    """An array in memory."""

    array: np.ndarray
    chunk: None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sizes in stored order."""
        first, second, third = self.array.shape
        return first, second, third

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type as stored."""
        return self.array.dtype

    def read(self, axis: int, start: int, stop: int, reuse: np.ndarray | None = None) -> np.ndarray:
        """A view."""
        return self.array[(slice(None),) * axis + (slice(start, stop),)]


@dataclass(frozen=True)
class FileArray:
    """Plain C-ordered numbers in a file, read with pread: no mapping, so that memory stays what is asked for."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    offset: int = 0
    chunk: None = None

    def read(self, axis: int, start: int, stop: int, reuse: np.ndarray | None = None) -> np.ndarray:
        """[start, stop) of one axis; RawFileError if the file ends early."""
        outer, inner = _product(self.shape[:axis]), _product(self.shape[axis + 1 :]) * self.dtype.itemsize
        block = empty_slab((*self.shape[:axis], stop - start, *self.shape[axis + 1 :]), self.dtype, reuse)
        runs = block.reshape(-1).view(np.uint8).data
        length = (stop - start) * inner
        with self.path.open("rb", buffering=0) as file:
            for k in range(outer):
                where = self.offset + (k * self.shape[axis] + start) * inner
                self._fill(file, runs[k * length : (k + 1) * length], where)
        return block

    def _fill(self, file: Any, target: memoryview, where: int) -> None:
        done = 0
        while done < len(target):
            n = os.preadv(file.fileno(), [target[done:]], where + done)
            if n == 0:
                raise RawFileError(f"{self.path}: ends early, it was cut off while being read; copy it again")
            done += n


@dataclass(frozen=True)
class StoredArray:
    """An array in file order with what its container says about it.

    axes          : permutation of "yxc": the order of the stored axes
    files         : every file that was read, the named one first
    centres       : band centres of all stored bands in file order, or None
    fwhm          : (C,) widths of all stored bands, or None; fwhm_unit: None is that of the centres
    scale, unit   : stored value times scale = physical value, or None if the container does not say
    gain, offset  : (C,) float64; stored value * gain + offset, before `scale`; None: 1 and 0
    good_bands    : (C,) bool, False for bands that the file calls bad; None: all are good
    ignore_values : stored values that stand for no data
    georeference  : where the image lies on the ground, as it is stored (hvlabel.readers.georeference), or None
    swapped       : the form takes the container's rows for columns, so the georeference is to be transposed
    rgb           : (rows, columns, 3) picture inside the same file, stored as the cube is
    """

    array: Slabs | Packed
    axes: str
    files: tuple[Path, ...]
    centres: Centres | None = None
    fwhm: tuple[float, ...] | None = None
    fwhm_unit: str | None = None
    scale: float | None = None
    unit: str | None = None
    gain: np.ndarray | None = None
    offset: np.ndarray | None = None
    good_bands: np.ndarray | None = None
    ignore_values: tuple[float, ...] = ()
    georeference: Georeference | None = None
    swapped: bool = False
    rgb: Slabs | Packed | None = None

    @property
    def n_bands(self) -> int:
        """Bands in the file."""
        return self.array.shape[self.axes.index("c")]


def gains_of(path: Path, gain: Sequence[float] | None, offset: Sequence[float] | None, n_bands: int) -> Gains:
    """What a file's gains and offsets come to. path: of the file, for messages.

    One gain for all bands without any offset is a scale; else arrays of one value per band.
    """
    values = []
    for name, given, neutral in (("gains", gain, 1.0), ("offsets", offset, 0.0)):
        array = np.full(n_bands, neutral) if given is None else np.asarray(given, np.float64).ravel()
        if array.size == 1:
            array = np.full(n_bands, array[0])
        if array.size != n_bands:
            raise RawFileError(f"{path}: {array.size} {name} for {n_bands} bands; they must be equal: mend the file")
        if not np.isfinite(array).all():
            raise RawFileError(f"{path}: its {name} are no finite numbers; mend the file, or set descriptor.scale")
        values.append(array)
    gains, offsets = values
    if not gains.any():
        raise RawFileError(f"{path}: its gains are all 0; mend the file, or set descriptor.scale")
    if (gains == gains[0]).all() and gains[0] > 0 and not offsets.any():
        return Gains(float(gains[0]), None, None)
    return Gains(None, gains, offsets)


@dataclass(frozen=True)
class Gains:
    """One scale, or gains and offsets by band."""

    scale: float | None
    gain: np.ndarray | None
    offset: np.ndarray | None


def unpack(packed: Packed, path: Path, scratch: BinaryIO | None) -> Slabs:
    """The array in memory, or, given an open scratch file, in that file. path: the raw file, for messages."""
    if scratch is None:
        target = np.empty(_product(packed.shape), packed.dtype)
    done = 0
    total = _product(packed.shape)
    for block in packed.blocks():
        flat = np.ascontiguousarray(block, dtype=packed.dtype).reshape(-1)
        if done + flat.size > total:
            raise RawFileError(f"{path}: more values than its header promises ({total}); copy it again")
        if scratch is None:
            target[done : done + flat.size] = flat
        else:
            scratch.write(flat.view(np.uint8).data)
        done += flat.size
    if done != total:
        raise RawFileError(
            f"{path}: {done} values, but its header promises {total}; the file is truncated, copy it again"
        )
    if scratch is None:
        return MemoryArray(target.reshape(packed.shape))
    scratch.flush()
    return FileArray(Path(scratch.name), packed.dtype, packed.shape)


def empty_slab(shape: tuple[int, ...], dtype: np.dtype[Any], reuse: np.ndarray | None) -> np.ndarray:
    """An array to be filled, in the memory of one that may be overwritten if that is large enough."""
    n_values = _product(shape)
    if reuse is None or reuse.size < n_values:
        return np.empty(shape, dtype)
    return reuse.reshape(-1)[:n_values].reshape(shape)


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the axes of length one that are too many for three, the leading ones first."""
    sizes = list(shape)
    while len(sizes) > 3 and 1 in sizes:
        sizes.remove(1)
    return tuple(sizes)


def require_cube(path: Path, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int, int]:
    """The shape, if it is that of a 3-D numeric array."""
    if len(shape) != 3 or 0 in shape:
        raise RawFileError(
            f"{path}: {what} has shape {shape}, expected three axes (row, column, band); name another variable or file"
        )
    if dtype.kind not in NUMERIC_KINDS or dtype.itemsize > 8:
        raise RawFileError(
            f"{path}: {what} has type {dtype}, expected numbers of at most 64 bit; name another variable or file"
        )
    first, second, third = (int(n) for n in shape)
    return first, second, third


def require_plausible(path: Path, what: str, shape: tuple[int, ...], itemsize: int, stored_bytes: int) -> None:
    """Refuse an array that claims far more than its stored bytes can hold; nothing is allocated before."""
    claimed = _product(shape) * itemsize
    if claimed > HARMLESS_BYTES and claimed > PLAUSIBLE_RATIO * stored_bytes:
        raise RawFileError(
            f"{path}: {what} claims {'x'.join(map(str, shape))} values ({claimed} bytes) out of {stored_bytes} stored bytes; "
            "the file is damaged or hostile, copy it again"
        )


def _product(sizes: tuple[int, ...]) -> int:
    result = 1
    for size in sizes:
        result *= int(size)  # Python integers: a lying header may exceed 64 bit
    return result
