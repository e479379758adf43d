"""What is written without zarr-python is byte for byte what it writes, and reads back the same by either."""

import json

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec

from hvlabel.cache.features import open_features, write_features
from hvlabel.cache.receipt import seal_folder
from hvlabel.cube import chunk_file
from hvlabel.cube.picture import PICTURE_CHUNK_PX, write_layer
from hvlabel.zarr_files import ArrayLayout, GroupFiles, even_side, group_metadata, read_layer

EDGE_PX = PICTURE_CHUNK_PX + 8  # a picture of this side has chunks that reach beyond it


def files(folder):
    """Path -> content of every file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def codecs_of_zarr(itemsize):
    shuffle = "shuffle" if itemsize > 1 else "bitshuffle"
    return BloscCodec(cname="lz4", clevel=5, shuffle=shuffle, typesize=itemsize), Crc32cCodec()


def layers():
    """Pictures and masks: small, larger than a chunk, with a chunk of zeros alone, all of zeros."""
    rng = np.random.default_rng(0)
    half_black = rng.integers(0, 256, (EDGE_PX, 30, 3), np.uint8)
    half_black[:PICTURE_CHUNK_PX] = 0
    return {
        "picture": rng.integers(0, 256, (20, 30, 3), np.uint8),
        "wide": rng.integers(0, 256, (9, EDGE_PX, 3), np.uint8),
        "half black": half_black,
        "black": np.zeros((5, 6, 3), np.uint8),
        "mask": rng.random((EDGE_PX, 7)) > 0.5,
    }


@pytest.mark.parametrize("kind", layers())
def test_a_layer_is_written_and_read_as_by_zarr(kind, tmp_path):
    values = layers()[kind]
    write_layer(GroupFiles(tmp_path / "ours"), "layer", values)
    group = zarr.create_group(tmp_path / "theirs")
    chunks = tuple(min(n, PICTURE_CHUNK_PX) for n in values.shape)
    names = ("y", "x", "channel")[: values.ndim]
    array = group.create_array(
        "layer",
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        compressors=codecs_of_zarr(1),
        dimension_names=names,
    )
    array[:] = values
    expected = files(tmp_path / "theirs")
    del expected["zarr.json"]  # the group's, which is written last
    assert files(tmp_path / "ours") == expected
    metadata = json.loads((tmp_path / "ours/layer/zarr.json").read_bytes())
    read = read_layer(tmp_path / "ours/layer", metadata, lambda *parts: chunk_file.decode(tmp_path, *parts))
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_a_cube_is_described_as_by_zarr(dtype, tmp_path):
    dtype = np.dtype(dtype)
    shape, chunk, side = (7, 40, 30), (7, 48, 32), 16
    inner = (7, side, side)
    ours = ArrayLayout(
        "cube",
        shape,
        dtype,
        chunk_shape=chunk,
        codecs=(chunk_file.sharding_codec(inner, dtype.itemsize),),
        dimension_names=("band", "y", "x"),
        attributes={"coordinates": "wavelength_nm"},
    )
    zarr.create_group(tmp_path / "theirs").create_array(
        "cube",
        shape=shape,
        dtype=dtype,
        chunks=chunk,
        serializer=ShardingCodec(chunk_shape=inner, codecs=(BytesCodec(), *codecs_of_zarr(dtype.itemsize))),
        filters=(),
        compressors=(),
        dimension_names=("band", "y", "x"),
        attributes={"coordinates": "wavelength_nm"},
    )
    assert ours.metadata() == (tmp_path / "theirs/cube/zarr.json").read_bytes()


def test_attributes_are_read_by_zarr(tmp_path):
    attributes = {"key": "k", "nested": {"list": [1, 2.5, None]}, "name": "\u00e4"}
    GroupFiles(tmp_path / "g")
    (tmp_path / "g/zarr.json").write_bytes(group_metadata(attributes))
    assert dict(zarr.open_group(tmp_path / "g", mode="r").attrs) == attributes


@pytest.mark.parametrize("shape", [(2, 2, 5), (33, 64, 3), (1, 70, 2)])
def test_features_are_read_back_and_filled_up_little(shape, tmp_path):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    values[0] = 0
    path = tmp_path / "t.zarr"
    write_features(path, values, {"stride_yx_px": [4.0, 4.0]})
    features = open_features(path)
    np.testing.assert_array_equal(features.read(slice(0, shape[0]), slice(0, shape[1])), values)
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["features"][:], values)
    stored = sum(p.stat().st_size for p in (path / "features/c").rglob("*") if p.is_file())
    n_chunks = sum(p.is_file() for p in (path / "features/c").rglob("*"))
    rows_beyond, columns_beyond = (-n % features.chunk_shape[k] for k, n in enumerate(shape[:2]))
    assert rows_beyond < n_chunks
    assert columns_beyond < n_chunks
    assert stored == 2 * (shape[0] + rows_beyond) * (shape[1] + columns_beyond) * shape[2] + 4 * n_chunks


@pytest.mark.parametrize(("n", "side"), [(1, 1), (4, 4), (32, 32), (33, 17), (64, 32), (65, 22), (100, 25)])
def test_even_sides(n, side):
    assert even_side(n, 32) == side


def test_features_of_earlier_versions_are_read(tmp_path):
    """Their chunks all were of the largest size, however small the grid."""
    values = np.random.default_rng(0).normal(size=(5, 40, 3)).astype(np.float16)
    path = tmp_path / "old.zarr"
    array = zarr.create_group(path).create_array(
        "features", shape=values.shape, dtype="float16", chunks=(32, 32, 3), compressors=[Crc32cCodec()]
    )
    array[:] = values
    (path / "zarr.json").unlink()
    seal_folder(path, {"stride_yx_px": [4.0, 4.0]}, {})
    features = open_features(path)
    assert features.chunk_shape == (32, 32, 3)
    np.testing.assert_array_equal(features.read(slice(1, 5), slice(30, 40)), values[1:5, 30:40])
