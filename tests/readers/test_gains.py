"""Gains and offsets that files name: by band they are applied, one for all is a scale."""

import numpy as np
import pytest
from described_scene import HOLE, SCENE, N, converted, envi, hdf5, tiff
from raw_files import gdal_items

from hvlabel.errors import RawFileError
from hvlabel.readers import first_line, open_raw

GAINS = np.linspace(0.001, 0.004, N)
OFFSETS = np.linspace(-0.1, 0.2, N)


def gains_envi(folder):
    return envi(folder, data_gain_values=GAINS, data_offset_values=OFFSETS)


def gains_hdf5(folder):
    return hdf5(folder, scale_factor=GAINS, add_offset=OFFSETS)


def gains_tiff(folder):
    scales = gdal_items("SCALE", GAINS.tolist(), role="scale")
    return tiff(folder, items=scales + gdal_items("OFFSET", OFFSETS.tolist(), role="offset"))


@pytest.mark.parametrize("write", [gains_envi, gains_hdf5, gains_tiff])
def test_gains_and_offsets_by_band_are_applied(tmp_path, write):
    path, descriptor = write(tmp_path)
    expected = SCENE * GAINS[:, None, None] + OFFSETS[:, None, None]
    cube = converted(path, descriptor)
    np.testing.assert_allclose(cube.values()[:, ~HOLE], expected[:, ~HOLE], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(cube.valid, ~HOLE)  # what stands for no data is known before gains change it
    assert cube.attributes["gains_applied"]
    np.testing.assert_allclose(first_line(open_raw(path, descriptor))[:30], expected[0, 0, :30], rtol=1e-5)


@pytest.mark.parametrize("write", [gains_envi, gains_hdf5, gains_tiff])
def test_a_scale_of_the_descriptor_stands_above_the_files_gains(tmp_path, write):
    path, descriptor = write(tmp_path)
    raw = open_raw(path, descriptor.model_copy(update={"scale": 0.5}))
    assert (raw.scale, raw.dtype, raw.gain) == (0.5, np.dtype("i2"), None)
    np.testing.assert_array_equal(raw.read(), SCENE)


def test_one_gain_for_all_is_a_scale_and_values_stay_integers(tmp_path):
    raw = open_raw(*hdf5(tmp_path, scale_factor=np.float64(0.0001)))
    assert (raw.scale, raw.dtype) == (0.0001, np.dtype("i2"))
    equal = [2.5] * N
    assert open_raw(*envi(tmp_path, data_gain_values=equal)).scale == 2.5
    both = envi(tmp_path, data_gain_values=equal, reflectance_scale_factor=100)
    assert open_raw(*both).scale == pytest.approx(0.025)
    offset = converted(*hdf5(tmp_path, scale_factor=0.5, add_offset=10.0))
    np.testing.assert_allclose(offset.values()[:, ~HOLE], SCENE[:, ~HOLE] * 0.5 + 10)


def test_neons_scale_factor_divides_unless_it_is_small(tmp_path):
    neon = open_raw(*hdf5(tmp_path, Scale_Factor=10000.0))
    assert (neon.scale, neon.unit) == (pytest.approx(1e-4), "reflectance")
    assert open_raw(*hdf5(tmp_path, Scale_Factor=0.0001)).scale == 0.0001  # meant to multiply


def test_gains_that_make_no_sense_are_a_sentence(tmp_path):
    with pytest.raises(RawFileError, match="3 gains for 8 bands"):
        open_raw(*envi(tmp_path, data_gain_values=[1, 2, 3]))
    with pytest.raises(RawFileError, match="gains are all 0"):
        open_raw(*envi(tmp_path, data_gain_values=[0] * N))
