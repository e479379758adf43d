"""Colour pictures beside a cube and inside its file."""

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import raw_files
from six_bands import NM, YXC, npy

from hvlabel.config import CubeSettings
from hvlabel.descriptors import Descriptor, load_descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers import fit, open_raw, read_rgb
from hvlabel.readers.pictures import read_grey
from hvlabel.stages.convert import convert_file


def noise(*shape, below=256, dtype=np.uint8):
    """Reproducible values."""
    return np.random.default_rng(0).integers(0, below, shape).astype(dtype)


def test_the_path_of_a_companion(tmp_path):
    colour = Descriptor(container="npy", wavelengths_nm=NM, rgb_companion="../rgb/{stem}.png")
    assert colour.companion_of(tmp_path / "a.npy") == tmp_path / "../rgb/a.png"


def test_a_companion_is_read_as_rgb_and_made_to_fit(tmp_path):
    with pytest.raises(RawFileError, match="RGB companion is missing or damaged"):
        read_rgb(tmp_path / "none.png")
    cv2.imwrite(str(tmp_path / "c.png"), np.full((8, 6, 3), (10, 20, 30), np.uint8))  # OpenCV writes blue first
    fitted = fit(read_rgb(tmp_path / "c.png"), 4, 3)
    np.testing.assert_array_equal(fitted, np.full((4, 3, 3), (30, 20, 10)))


def test_a_cut_off_companion_is_refused_and_an_unused_one_not_missed(tmp_path):
    path, _ = npy(tmp_path)
    descriptor = Descriptor(container="npy", wavelengths_nm=NM, rgb_companion="{stem}.jpg")

    def source(**settings):
        return convert_file(path, descriptor, CubeSettings(**settings), tmp_path / "a.zarr")["rgb_source"]

    cv2.imwrite(str(tmp_path / "a.jpg"), noise(90, 130, 3))
    assert source() == "companion"
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    with pytest.raises(RawFileError, match="companion is missing or damaged"):
        source()
    (tmp_path / "a.jpg").unlink()
    assert source(rgb="triplet") == "triplet"


def test_companion_folders_above_the_data_set_are_left_alone():
    form = load_descriptor("x", "hsidrive20")
    inside = form.companion_of(Path("/data/test/HSI/images/test/n_MF_TC.npy"))
    assert inside == Path("/data/test/HSI/RGB/n_pseudocolor.png")
    assert form.companion_of(Path("/images/HSI/images/n_MF_TC.npy")) == Path("/images/HSI/RGB/n_pseudocolor.png")


def test_palettes_and_deep_colours_keep_their_grey_values(tmp_path):
    grey = noise(30, 30)
    PIL.Image.fromarray(grey).convert("P").save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "p.png"), grey)
    deep = noise(20, 30, below=65_536, dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "d.png"), np.dstack([deep] * 3))
    np.testing.assert_array_equal(read_grey(tmp_path / "d.png"), deep)
    cv2.imwrite(str(tmp_path / "c.png"), np.dstack([deep, deep, deep // 2]))
    with pytest.raises(RawFileError, match="a colour picture, expected a grey one"):
        read_grey(tmp_path / "c.png")


def inner_rgb(path, picture):
    """What is shown of a picture inside a MATLAB file."""
    raw_files.mat5(path, cube=YXC, rgb=picture)
    descriptor = Descriptor(container="matlab", rgb_variable="rgb", wavelengths_nm=NM)
    return open_raw(path, descriptor).inner_rgb()


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "int64"])
def test_whole_numbers_inside_a_file_are_shown_as_they_are(tmp_path, dtype):
    picture = noise(9, 13, 3, below=255, dtype=dtype)
    np.testing.assert_array_equal(inner_rgb(tmp_path / "b.mat", picture), picture)


@pytest.mark.parametrize(("largest", "white"), [(0.9, 1), (1.04, 1), (250, 255), (4095, 4095)])
def test_float_pictures_inside_a_file_are_shown_by_their_range(tmp_path, largest, white):
    picture = np.linspace(0, largest, 9 * 13 * 3).reshape(9, 13, 3)
    expected = np.clip(picture / white, 0, 1) * 255
    assert np.abs(inner_rgb(tmp_path / "a.mat", picture) - expected).max() <= 0.5001
