"""Pictures of cubes by a foreign hand: sealed, but not what they say. Neither memory is filled nor rubbish shown."""

import json

import google_crc32c
import numpy as np
import pytest

from hvlabel.cache.receipt import update_attributes
from hvlabel.cube import chunk_file, open_cube
from hvlabel.errors import CubeError


def resealed(cube, change):
    """Change what describes the picture of a cube, and let its receipt say so: a file by a foreign hand."""
    path = cube.path / "rgb/zarr.json"
    metadata = json.loads(path.read_bytes())
    change(metadata)
    path.write_bytes(json.dumps(metadata).encode())
    content = path.read_bytes()
    receipt = cube.attributes["receipt"] | {"rgb/zarr.json": [len(content), google_crc32c.value(content)]}
    update_attributes(cube.path, {"receipt": receipt})
    return open_cube(cube.path)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(shape=[3]),
        lambda m: m.update(shape=[2_000_000, 2_000_000, 3]),
        lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[2_000_000, 2_000_000, 3]),
        lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[0, 4, 3]),
        lambda m: m.update(data_type="float64"),
        lambda m: m.update(data_type="int8,("),
        lambda m: m.update(chunk_grid=None),
    ],
)
def test_a_picture_that_is_none_is_refused(make_cube, tmp_path, change):
    cube = make_cube(tmp_path / "a.zarr", np.random.default_rng(0).random((5, 20, 30), np.float32))
    with pytest.raises(CubeError, match="its array rgb is damaged"):
        _ = resealed(cube, change).rgb


def test_a_chunk_of_another_size_is_refused(make_cube, tmp_path):
    """Blosc would fill a part of the chunk, and leave the rest as it was in memory."""
    cube = make_cube(tmp_path / "a.zarr", np.random.default_rng(0).random((5, 20, 30), np.float32))
    (cube.path / "rgb/c/0/0/0").write_bytes(chunk_file.encode(np.ones((4, 4, 3), np.uint8)))
    with pytest.raises(CubeError, match="its array rgb is damaged"):
        _ = cube.rgb
