"""Stored arrays of plain numbers: in memory, in a file, or packed so that they must be unpacked from front to back."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hvlabel.errors import RawFileError
from hvlabel.readers.contract import Budget, Slabs
from hvlabel.readers.sizes import n_values


class Cut:
    """What arrays have in common that can be cut: they need no unpacking, and single values come out of one slab."""

    cut_axes: tuple[int, ...] = (0, 1, 2)

    @contextmanager
    def opened(self: Slabs, budget: Budget) -> Iterator[Slabs]:
        """The array itself."""
        yield self

    def pick(self: Slabs, axis: int, where: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        """See contract.Stored."""
        # the slab from the first to the last position, whatever their order
        first = int(where[axis].min())
        last = int(where[axis].max())
        slab = self.read(axis, first, last + 1)
        inside = list(where)
        inside[axis] = where[axis] - first
        return slab[np.ix_(*inside)].ravel()


@dataclass(frozen=True)
class MemoryArray(Cut):
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
        everything = (slice(None),) * axis  # of the axes before
        return self.array[(*everything, slice(start, stop))]


@dataclass(frozen=True)
class FileArray(Cut):
    """Plain C-ordered numbers in a file, read with pread: no mapping, so that memory stays what is asked for.

    offset : bytes before the first number
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    offset: int = 0
    chunk: None = None

    def read(self, axis: int, start: int, stop: int, reuse: np.ndarray | None = None) -> np.ndarray:
        """[start, stop) of one axis; RawFileError if the file ends early."""
        before = self.shape[:axis]
        after = self.shape[axis + 1 :]
        slab = empty_slab((*before, stop - start, *after), self.dtype, reuse)
        in_bytes = slab.reshape(-1).view(np.uint8)
        content = in_bytes.data
        # in the file the slab is one run of bytes per index of the axes before
        step_bytes = n_values(after) * self.dtype.itemsize
        run_bytes = (stop - start) * step_bytes
        with self.path.open("rb", buffering=0) as file:
            for k in range(n_values(before)):
                steps_before = k * self.shape[axis] + start
                where = self.offset + steps_before * step_bytes
                target = content[k * run_bytes : (k + 1) * run_bytes]  # a view of the slab
                self._fill(file, target, where)
        return slab

    def _fill(self, file: Any, target: memoryview, where: int) -> None:
        done = 0
        while done < len(target):  # pread may give less than asked for, and gives at most 2 GiB at once
            n_read = os.preadv(file.fileno(), [target[done:]], where + done)
            if n_read == 0:
                raise RawFileError(f"{self.path}: ends early, it was cut off while being read; copy it again")
            done += n_read


@dataclass(frozen=True)
class Packed:
    """A 3-D array that can only be read from front to back.

    blocks : yields consecutive pieces of it in C order, of any shape; raises at the latest at the end if the file is
             damaged
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterator[np.ndarray]]
    chunk: None = None
    cut_axes: tuple[()] = ()

    @property
    def nbytes(self) -> int:
        """Unpacked size."""
        return n_values(self.shape) * self.dtype.itemsize

    @contextmanager
    def opened(self, budget: Budget) -> Iterator[Slabs]:
        """The array unpacked: in memory up to a quarter of the budget's, else in a file that goes when it is closed."""
        # the rest of the budget is for slabs, which are cut from it
        if self.nbytes <= budget.memory_bytes // 4:
            yield self._in_memory(budget.path)
            return
        with tempfile.NamedTemporaryFile(dir=budget.scratch_folder, prefix="unpacked-") as scratch:
            yield self._in_file(budget.path, scratch.file)  # type: ignore[arg-type]

    def pick(self, axis: int, where: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        """Values at the crossings of some positions: unpacked from the front as far as the last of them."""
        crossings = np.ix_(*where)
        positions = np.ravel_multi_index(crossings, self.shape).ravel()  # in C order, as the blocks come
        last = int(positions.max())
        parts: list[np.ndarray] = []
        n_unpacked = 0
        for block in self.blocks():
            parts.append(block.reshape(-1))
            n_unpacked += block.size
            if n_unpacked > last:
                break
        return np.concatenate(parts)[positions]

    def _in_memory(self, path: Path) -> MemoryArray:
        flat = np.empty(n_values(self.shape), self.dtype)  # a plausible size: every reader has checked it
        done = 0
        for values in self._all(path):
            flat[done : done + values.size] = values
            done += values.size
        return MemoryArray(flat.reshape(self.shape))

    def _in_file(self, path: Path, scratch: BinaryIO) -> FileArray:
        for values in self._all(path):
            scratch.write(values.view(np.uint8).data)
        scratch.flush()  # it is read through another handle
        return FileArray(Path(scratch.name), self.dtype, self.shape)

    def _all(self, path: Path) -> Iterator[np.ndarray]:
        """Flat pieces that together are exactly the array; RawFileError where they are fewer or more."""
        promised = n_values(self.shape)
        done = 0
        for block in self.blocks():
            in_order = np.ascontiguousarray(block, dtype=self.dtype)
            values = in_order.reshape(-1)
            done += values.size
            if done > promised:  # before the piece is kept: a hostile file must not fill memory or disk
                raise RawFileError(f"{path}: more values than its header promises ({promised}); copy it again")
            yield values
        if done != promised:
            raise RawFileError(
                f"{path}: {done} values, but its header promises {promised}; the file is truncated, copy it again"
            )


def empty_slab(shape: tuple[int, ...], dtype: np.dtype[Any], reuse: np.ndarray | None) -> np.ndarray:
    """An array to be filled, in the memory of one that may be overwritten if that is large enough."""
    size = n_values(shape)
    if reuse is None or reuse.size < size:  # the first slab, or the last one was thinner
        return np.empty(shape, dtype)
    memory = reuse.reshape(-1)[:size]
    return memory.reshape(shape)
