"""Augmented samples of salient objects: parts that lie where their truth lies, and what a task file may ask for."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hvlabel.errors import ConfigError
from hvlabel.settings import validated
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.downstream.cut_out import cut_out
from hvtrain.downstream.dense_inputs import network_values
from hvtrain.downstream.saliency_file import SaliencyAugmentSettings, SaliencySettings

H, W = 24, 20


class Same:
    """A backbone whose map is what it is shown."""

    def maps(self, values, wavelengths_nm, gsd_m):
        return FeatureMaps((torch.from_numpy(np.ascontiguousarray(values))[None],), (1.0,))


@pytest.fixture
def images(make_cube, tmp_path):
    """Two images whose first band is the truth, and these."""
    drawn, truths = [], []
    for k in range(2):
        truth = np.random.default_rng(k).integers(0, 256, (H, W)).astype(np.uint8)
        cube = make_cube(tmp_path / f"{k}.zarr", np.stack([truth, truth.T.reshape(H, W)]).astype("f4"))
        drawn.append(SimpleNamespace(cube=cube, settings=SimpleNamespace(every_px=1, gsd_m=1.0)))
        truths.append(torch.from_numpy(truth))
    return drawn, truths


@pytest.mark.parametrize("seed", range(6))
def test_parts_and_their_truth_are_of_one_place(images, seed):
    augment = SaliencyAugmentSettings(crop=0.5, flip=0.5)
    parts = cut_out(*images, "cube", Same(), augment, np.random.default_rng(seed))
    np.testing.assert_array_equal(parts.last[:, 0], parts.truth)  # half precision holds whole numbers to 2048
    height, width = parts.truth.shape[1:]
    assert H / 2 <= height <= H
    assert W / 2 <= width <= W
    again = cut_out(*images, "cube", Same(), augment, np.random.default_rng(seed))
    np.testing.assert_array_equal(again.last, parts.last)


def test_each_band_has_a_gain_of_its_own(images):
    augment = SaliencyAugmentSettings(flip=0, gain_sd=0.1)
    parts = cut_out(*images, "cube", Same(), augment, np.random.default_rng(0))
    assert parts.truth.shape == (2, H, W)
    for k in range(2):
        gains = []
        for band, values in enumerate(images[0][k].cube.values()):
            ratio = parts.last[k, band].numpy()[values > 0] / values[values > 0]
            assert np.ptp(ratio) < 2e-3  # of half precision
            gains.append(ratio.mean())
        assert abs(gains[0] - gains[1]) > 1e-3
        assert 0.5 < min(gains) <= max(gains) < 1.5


@pytest.mark.parametrize("shown", ["cube", "rgb"])
@pytest.mark.parametrize("every_px", [1, 2])
def test_a_box_is_that_part_of_the_whole(make_cube, tmp_path, shown, every_px):
    values = np.random.default_rng(0).random((4, 11, 9)).astype("f4")
    values[2] = 0.5  # a band that is stuck
    cube = make_cube(tmp_path / "dead.zarr", values)
    whole, bands_nm = network_values(cube, shown, every_px)
    rows, columns = slice(1, 5), slice(2, 4)
    part, bands_of_part = network_values(cube, shown, every_px, (rows, columns))
    np.testing.assert_array_equal(part, whole[:, rows, columns])
    assert bands_of_part == bands_nm


def settings_of(**changes):
    tree = {"kind": "saliency", "title": "t", "head": "sam", "images": {"cubes": True}, "truth": {"file": "{name}.png"}}
    return validated(SaliencySettings, tree | changes, "task")


def test_a_flip_of_older_files_is_read_and_known_as_before():
    older, newer = settings_of(flip=0.2), settings_of(augment={"flip": 0.2})
    assert older == newer
    written = newer.model_dump(mode="json")
    assert written["flip"] == 0.2
    assert "augment" not in written
    more = settings_of(augment={"flip": 0.2, "crop": 0.6})
    written = more.model_dump(mode="json")
    assert written["augment"] == {"crop": 0.6, "gain_sd": 0.0}
    assert settings_of(**{name: written[name] for name in ("flip", "augment")}) == more


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"flip": 0.5, "augment": {"flip": 0.2}}, "flip is part of augment: give it once, there"),
        ({"flip": 0.5, "augment": 3}, "flip is part of augment"),
        ({"flip": 2}, "augment.flip"),
        ({"augment": {"crop": 0}}, "augment.crop"),
        ({"augment": {"crop": 1.5}}, "augment.crop"),
        ({"augment": {"scale": 1.5}}, "unknown key 'augment.scale'"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        settings_of(**changes)
