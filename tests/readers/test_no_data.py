"""Pixels and values that stand for no data take part in nothing."""

import numpy as np
import pytest
import raw_files
from described_scene import (
    HOLE,
    IGNORED,
    NM,
    OF_ENVI,
    OF_HDF5,
    PLACE,
    SCENE,
    H,
    N,
    W,
    converted,
    envi,
    hdf5,
    tiff,
)

from hvlabel.branches.material import MaterialSettings, spectral_components
from hvlabel.branches.rgb import RgbSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.branches.voters import RegionsSettings
from hvlabel.masks import decode
from hvlabel.readers import open_raw
from hvlabel.stages.segment import BranchRunner


@pytest.mark.parametrize("write", [envi, hdf5, tiff])
def test_pixels_without_data_take_no_part(tmp_path, write):
    cube = converted(*write(tmp_path))
    np.testing.assert_array_equal(cube.read(), SCENE)  # stored as they are
    assert cube.attributes["ignore_values"] == [IGNORED]
    assert cube.attributes["n_ignored"] == N * HOLE.sum()
    assert cube.attributes["n_invalid_px"] == HOLE.sum()
    np.testing.assert_array_equal(cube.valid, ~HOLE)
    sound = SCENE[:, ~HOLE]
    assert (cube.attributes["min"], cube.attributes["max"]) == (sound.min(), sound.max())
    assert cube.values().min() == sound.min()
    assert not cube.rgb[HOLE].any()
    alone = SCENE[:, :, :30]  # the picture is stretched as if the hole were not there
    other = converted(*envi(tmp_path, alone, "alone", data_ignore_value=None))
    np.testing.assert_array_equal(cube.rgb[:, :30], other.rgb)
    components = spectral_components(cube.live_values(), 4, cube.valid)
    expected = spectral_components(other.live_values(), 4)
    contrast = np.abs(components[:, :30] - 0.5)  # a component's sign is free
    np.testing.assert_allclose(contrast, np.abs(expected - 0.5), atol=1e-5)
    assert (components[HOLE] == 0.5).all()


@pytest.mark.parametrize(
    ("branch", "settings"),
    [
        ("rgb", RgbSettings(backend="regions")),
        ("sequence", SequenceSettings(backend="regions")),
        ("material", MaterialSettings(backend="regions")),
        ("regions", RegionsSettings(backend="regions")),
    ],
)
def test_no_mask_lives_on_missing_pixels(tmp_path, branch, settings):
    cube = converted(*envi(tmp_path))
    masks = [decode(mask.rle) for mask in BranchRunner(branch, settings).masks(cube).masks]
    assert len(masks) > 0
    assert all(mask.any() for mask in masks)
    assert not any((mask & HOLE).any() for mask in masks)
    for k in (1, 2):
        truth = k == PLACE
        best = max((mask & truth).sum() / (mask | truth).sum() for mask in masks)
        assert best > 0.9 or branch == "regions"


def test_an_ignore_value_that_the_type_cannot_hold_means_nothing(tmp_path):
    cube = converted(*hdf5(tmp_path, np.abs(SCENE).astype("u2"), _FillValue=-1.5))
    assert cube.attributes["ignore_values"] == []
    assert cube.valid is None


@pytest.mark.parametrize("name", ["_FillValue", "missing_value", "Data_Ignore_Value", "nodata"])
def test_every_name_of_the_ignore_value_in_hdf5(tmp_path, name):
    content = {"cube": SCENE, "wavelength": NM}
    path = raw_files.hdf5(tmp_path / "a.h5", content, {name: [np.int16(IGNORED)]})
    assert open_raw(path, OF_HDF5).ignore_values == (IGNORED,)


@pytest.mark.parametrize(
    ("text", "expected"), [("None", ()), ("NA", ()), ("-9999 ; fill", (-9999.0,)), ("-1.5e3", (-1500.0,))]
)
def test_words_for_no_ignore_value(tmp_path, text, expected):
    path, descriptor = envi(tmp_path, data_ignore_value=text)
    assert open_raw(path, descriptor).stored.ignore_values == expected


def test_several_values_may_stand_for_no_data(tmp_path):
    values = SCENE.copy()
    values[:, 0] = -32767
    cube = converted(*hdf5(tmp_path, values, missing_value=np.int16(-32767)))
    assert sorted(cube.attributes["ignore_values"]) == [-32767, IGNORED]
    expected = ~HOLE
    expected[0] = False
    np.testing.assert_array_equal(cube.valid, expected)


def test_an_ignore_value_that_no_float_holds(tmp_path):
    ignored = np.int64(-9223372036854775806)  # NetCDF's own
    wide = SCENE.astype("i8")
    wide[:, HOLE] = ignored
    cube = converted(*hdf5(tmp_path, wide, _FillValue=ignored))
    assert cube.attributes["n_invalid_px"] == HOLE.sum()


def test_single_missing_values_do_not_make_a_pixel_invalid(tmp_path):
    values = SCENE.copy()
    values[3, 10, 10] = IGNORED
    cube = converted(*envi(tmp_path, values))
    assert cube.valid[10, 10]
    neighbours = (values[2, 10, 10] + values[4, 10, 10]) / 2
    assert cube.values()[3, 10, 10] == pytest.approx(neighbours)


def test_a_stuck_band_makes_no_pixel_valid_and_no_neighbour_of_it(tmp_path):
    values = SCENE.copy()
    values[3] = 7
    values[2, 10, 10] = IGNORED
    cube = converted(*envi(tmp_path, values))
    assert cube.attributes["dead_bands"] == [3]
    np.testing.assert_array_equal(cube.valid, ~HOLE)
    assert cube.values()[2, 10, 10] == pytest.approx((2 * values[1, 10, 10] + values[4, 10, 10]) / 3)
    live = np.delete(values, 3, 0)
    expected = live[live != IGNORED].min(), live.max()
    assert (cube.attributes["min"], cube.attributes["max"]) == expected
    stored = cube.plain(cube.read())
    assert (stored.min(), stored.max()) == expected


def test_a_missing_value_of_the_picture_comes_from_the_pixels_own_spectrum(tmp_path):
    infrared = np.linspace(900, 1700, 30)
    y, x = np.mgrid[:H, :W]
    smooth = (1000 + 10 * y + 5 * x + 20 * np.arange(30)[:, None, None]).astype("<i2")
    pictures = {}
    for name, missing in (("whole", []), ("one", [25]), ("three", [5, 15, 25])):
        values = smooth.copy()
        values[np.ix_(missing, range(20, 24), range(20, 24))] = IGNORED
        file = envi(tmp_path, values, name, wavelength=infrared)
        pictures[name] = converted(*file).rgb.astype(int)
    for name in ("one", "three"):
        assert np.abs(pictures[name] - pictures["whole"]).max() <= 1


def test_gains_do_not_make_numbers_of_missing_values(tmp_path):
    values = (SCENE / 4000).astype("<f4")
    values[:, HOLE] = np.finfo(np.float32).min
    gains = [0.1 + 0.01 * k for k in range(N)]
    path = raw_files.envi(tmp_path / "a.hdr", values, wavelength=NM, data_gain_values=gains)
    cube = converted(path, OF_ENVI)
    np.testing.assert_array_equal(cube.valid, ~HOLE)
    assert abs(cube.attributes["min"]) < 1
