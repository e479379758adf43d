"""From a raw file to a cube: strips in little memory, pictures through a file, and folders that are left alone."""

import h5py
import numpy as np
import pytest
import zarr
from six_bands import CUBE, NM, npy

import hvlabel.cube.write as writing
from hvlabel.config import CubeSettings
from hvlabel.cube import open_cube
from hvlabel.descriptors import Descriptor
from hvlabel.errors import CubeError, RawFileError
from hvlabel.readers import open_raw
from hvlabel.stages.convert import convert_file


@pytest.mark.parametrize("rot90", [0, 1, 2, 3])
@pytest.mark.parametrize("chunks", [None, (2, 3, 4), (6, 9, 13), (1, 9, 2)])
@pytest.mark.parametrize("dropped", [(3, 50, 89), (*range(16, 48), 70)])
def test_strips_in_little_memory_are_the_cube(tmp_path, rot90, chunks, dropped):
    cube = np.random.default_rng(0).integers(0, 4000, (6, 90, 130)).astype(">u2")
    packing = {"chunks": chunks, "compression": "gzip", "shuffle": True} if chunks else {}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("cube", data=cube, **packing)
    descriptor = Descriptor(container="hdf5", axes="cyx", wavelengths_nm=NM, rot90=rot90, drop_rows=dropped)
    raw = open_raw(tmp_path / "a.h5", descriptor)
    whole = np.rot90(np.delete(cube, dropped, axis=1), rot90, axes=(1, 2))
    n_times = np.zeros(raw.shape, int)
    last: tuple[np.ndarray, np.ndarray] | None = None
    for strip in raw.strips(16, 200_000, tmp_path, threads=2):
        if last is not None:  # still whole while the next one is at hand
            np.testing.assert_array_equal(*last)
        part = slice(strip.start, strip.start + strip.values.shape[strip.axis])
        box = np.s_[:, part] if strip.axis == 1 else np.s_[:, :, part]
        np.testing.assert_array_equal(strip.values, whole[box])
        last = strip.values, whole[box]
        assert strip.start % 16 == 0
        assert strip.values.nbytes <= 100_000
        n_times[box] += 1
    assert (n_times == 1).all()


def test_a_wide_picture_is_rendered_through_a_file(tmp_path, monkeypatch):
    path, descriptor = npy(tmp_path)
    convert_file(path, descriptor, CubeSettings(), tmp_path / "a.zarr")
    in_memory = writing.Linear
    monkeypatch.setattr(writing, "Linear", lambda folder, h, w, memory: in_memory(folder, h, w, 0))
    convert_file(path, descriptor, CubeSettings(), tmp_path / "b.zarr")
    np.testing.assert_array_equal(open_cube(tmp_path / "a.zarr").rgb, open_cube(tmp_path / "b.zarr").rgb)
    assert not list((tmp_path / "b.zarr").glob("*.tmp"))


def test_damaged_chunks_are_the_raw_files_fault(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", data=CUBE, chunks=(6, 9, 13), compression="gzip")
        offset = file["cube"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 20 : offset + 60] = bytes(40)
    path.write_bytes(bytes(content))
    descriptor = Descriptor(container="hdf5", axes="cyx", wavelengths_nm=NM)
    with pytest.raises(RawFileError, match=r"a\.h5: cannot be read to its end .*the file is damaged"):
        convert_file(path, descriptor, CubeSettings(), tmp_path / "a.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5"]


def test_a_folder_that_is_no_cube_is_never_replaced(tmp_path):
    path, descriptor = npy(tmp_path)
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "precious.txt").write_text("x")
    for out in (tmp_path / "mine.zarr", tmp_path / "mine", tmp_path):
        with pytest.raises(CubeError, match="not the path of a cube"):
            convert_file(path, descriptor, CubeSettings(), out)
    assert (tmp_path / "mine.zarr" / "precious.txt").exists()


def test_a_foreign_zarr_group_is_never_replaced(tmp_path):
    path, descriptor = npy(tmp_path)
    zarr.create_group(tmp_path / "mine.zarr").create_array("mydata", data=np.arange(5))
    with pytest.raises(CubeError, match="not the path of a cube"):
        convert_file(path, descriptor, CubeSettings(), tmp_path / "mine.zarr")
    assert (tmp_path / "mine.zarr" / "mydata").is_dir()
