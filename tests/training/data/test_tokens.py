"""Teacher tokens of a box, against a plain twin."""

import numpy as np
import pytest

from hvlabel.cache.features import open_features, write_features
from hvlabel.errors import CubeError
from hvtrain.data.tokens import tokens_of_box


def test_tokens_of_a_box_are_bilinear_between_token_centres(tmp_path):
    values = np.random.default_rng(0).normal(size=(40, 35, 3)).astype(np.float16)
    write_features(tmp_path / "t.zarr", values, {"stride_yx_px": [4.0, 5.0]})
    features = open_features(tmp_path / "t.zarr")
    np.testing.assert_array_equal(features.read(slice(0, 40), slice(0, 35)), values)
    np.testing.assert_array_equal(features.read(slice(30, 34), slice(31, 35)), values[30:34, 31:35])
    for box in ((0, 0, 160), (50, 30, 64), (7, 100, 75)):
        found = tokens_of_box(features, box, 8).astype(float)
        for row in range(8):
            for column in range(8):
                y = np.clip((box[0] + (row + 0.5) * box[2] / 8) / 4 - 0.5, 0, 39)
                x = np.clip((box[1] + (column + 0.5) * box[2] / 8) / 5 - 0.5, 0, 34)
                a, b = min(int(y), 38), min(int(x), 33)
                v, u = y - a, x - b
                c = values.astype(float)
                wanted = (1 - v) * ((1 - u) * c[a, b] + u * c[a, b + 1]) + v * (
                    (1 - u) * c[a + 1, b] + u * c[a + 1, b + 1]
                )
                np.testing.assert_allclose(found[row, column], wanted, atol=4e-3)


def test_damaged_features_are_refused(tmp_path):
    write_features(tmp_path / "t.zarr", np.ones((3, 3, 2)), {"stride_yx_px": [4.0, 4.0]})
    chunk = tmp_path / "t.zarr/features/c/0/0/0"
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(CubeError, match="teacher features is damaged"):
        open_features(tmp_path / "t.zarr").read(slice(0, 3), slice(0, 3))
