"""What the readers' contract promises, of every container and of every kind of array."""

import struct
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import pytest

from hvlabel.descriptors import Container
from hvlabel.readers.arrays import FileArray, MemoryArray, Packed
from hvlabel.readers.contract import Budget
from hvlabel.readers.formats import hdf5, hsd
from hvlabel.readers.slabs import image_axes
from hvlabel.readers.table import RAW_SUFFIXES, READERS

SHAPE = (7, 5, 9)
VALUES = np.random.default_rng(0).integers(0, 1000, SHAPE).astype("<i4")


def in_file(folder):
    (folder / "a.bin").write_bytes(b"head" + VALUES.tobytes())
    return FileArray(folder / "a.bin", VALUES.dtype, SHAPE, offset=4)


def in_blocks(folder):
    return Packed(SHAPE, VALUES.dtype, lambda: iter(np.array_split(VALUES.ravel(), 11)))


def in_chunks(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("cube", data=VALUES, chunks=(2, 3, 4), compression="gzip")
    return hdf5.variables(folder / "a.h5")["cube"].array(SHAPE)


def in_components(folder):
    n_rows, n_columns, n_bands = SHAPE
    content = [np.zeros(n_bands), np.eye(n_bands), VALUES.reshape(-1, n_bands)]
    head = struct.pack("<5ifi", n_rows, n_columns, n_bands, n_bands, 500, 10.0, 580)
    (folder / "a.hsd").write_bytes(head + b"".join(part.astype("<f4").tobytes() for part in content))
    return READERS["hsd"].read(folder / "a.hsd", None).array


ARRAYS = {
    "memory": lambda folder: MemoryArray(VALUES),
    "file": in_file,
    "packed": in_blocks,
    "hdf5": in_chunks,
    "hsd": in_components,
}


def budget(folder, memory_bytes):
    return Budget(Path("a.raw"), image_axes("yxc"), memory_bytes, folder, threads=2)


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("memory_bytes", [4_000, 1 << 20])
def test_an_opened_array_can_be_cut_along_each_of_its_axes(tmp_path, kind, memory_bytes):
    array = ARRAYS[kind](tmp_path)
    with array.opened(budget(tmp_path, memory_bytes)) as slabs:
        assert slabs.shape == SHAPE
        assert set(slabs.cut_axes) & set(image_axes("yxc"))
        for axis in slabs.cut_axes:
            spare = None
            for start in range(0, SHAPE[axis], 2):
                stop = min(start + 2, SHAPE[axis])
                slab = slabs.read(axis, start, stop, reuse=spare)
                np.testing.assert_array_equal(slab, VALUES.take(range(start, stop), axis))
                spare = None if np.may_share_memory(slab, VALUES) else slab
    assert not list(tmp_path.glob("unpacked-*"))


@pytest.mark.parametrize("kind", ARRAYS)
def test_picked_values_are_those_at_the_crossings(tmp_path, kind):
    array = ARRAYS[kind](tmp_path)
    where = (np.array([3]), np.arange(5)[::-1], np.array([2, 7]))
    for axis in array.cut_axes or (0,):
        np.testing.assert_array_equal(array.pick(axis, where), VALUES[np.ix_(*where)].ravel())


def test_packed_arrays_say_so_and_those_of_components_that_only_rows_can_be_cut(tmp_path):
    assert in_blocks(tmp_path).cut_axes == ()
    assert in_components(tmp_path).cut_axes == (hsd.ROWS,)


def test_every_container_has_a_row_and_every_suffix_one_container():
    assert set(READERS) == set(get_args(Container))
    assert len(set(RAW_SUFFIXES)) == len(RAW_SUFFIXES)
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in RAW_SUFFIXES)
