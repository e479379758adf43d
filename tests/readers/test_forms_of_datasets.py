"""Published files in other forms, and files that people have renamed, repacked or changed."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import raw_files
from published_files import H, W, published, smooth_rgb, tall_cube, values, write_envi
from verbs import hvlabel

from hvlabel.config import CubeSettings, Dataset
from hvlabel.config.tree import parse_config
from hvlabel.cube import open_cube
from hvlabel.descriptors import Descriptor, band_files, load_descriptor
from hvlabel.errors import RawFileError
from hvlabel.manifest import scan
from hvlabel.readers import open_raw
from hvlabel.stages.convert import convert_file


def opened(key, path):
    """A file read in the form that the data set's descriptor has for it."""
    return open_raw(path, load_descriptor("x", key).form_for(path))


def test_cave_with_eight_bit_colour_bands_and_without_a_picture(tmp_path):
    raw, upright, _ = published("cave", tmp_path)
    (raw / "balloons_RGB.bmp").unlink()
    grey = (upright[..., 4] % 256).astype(np.uint8)
    opaque = np.full_like(grey, 255)
    cv2.imwrite(str(raw / "balloons_ms_05.png"), np.dstack([grey, grey, grey, opaque]))
    attributes = convert_file(raw, load_descriptor("x", "cave"), CubeSettings(), tmp_path / "a.zarr")
    assert attributes["rgb_source"] == "cie"
    np.testing.assert_array_equal(open_cube(tmp_path / "a.zarr").read(bands=4)[0], grey.astype(int) * 257)


def test_cave_with_foreign_files_and_other_names(tmp_path):
    raw = published("cave", tmp_path).path
    for band in (17, 18):
        (raw / f"balloons_ms_{band}.png").rename(raw / f"balloons_ms_{band}.PNG")
    cv2.imwrite(str(raw / "balloons_RGB.png"), smooth_rgb())  # no band
    (raw / "._balloons_ms_05.png").write_bytes(b"of a file manager")
    assert opened("cave", raw).shape == (31, H, W)
    raw = raw.rename(tmp_path / "renamed")
    assert opened("cave", raw).shape == (31, H, W)
    (raw / "balloons_ms_17.PNG").unlink()
    with pytest.raises(RawFileError, match="30 PNG files for 31 bands"):
        opened("cave", raw)


def test_hyperblood_original_with_all_bands(tmp_path):
    cube = tall_cube()
    write_envi(tmp_path / "B_1.hdr", tmp_path / "B_1.float", cube)
    raw = opened("hyperblood", tmp_path / "B_1.float")
    np.testing.assert_array_equal(raw.read(), np.delete(cube, 445, axis=0).transpose(2, 0, 1))
    assert raw.wavelengths_nm[0] == 376.82


def test_hyperblood_of_the_other_camera(tmp_path):
    cube = values(116)
    path = raw_files.tiff(tmp_path / "F_2k.tif", cube.transpose(2, 0, 1))
    assert opened("hyperblood", path).shape == (113, H, W)
    for name in ("F_2k", "F(2k)"):  # its header may name no wavelengths
        header = tmp_path / f"{name}.hdr"
        write_envi(header, header.with_suffix(".float"), cube)
        raw = opened("hyperblood", header)
        assert raw.shape == (116, H, W)
        assert (raw.wavelengths_nm[0], raw.wavelengths_nm[-1]) == (401.5636, 1006.7258)


def test_the_last_of_several_scenes_in_a_file_is_read_as_the_published_reader_does(tmp_path):
    radiances, reflectances = values(33), values(33, seed=1)
    path = tmp_path / "scene.mat"
    raw_files.mat5(path, some_radiances=radiances, reflectances=reflectances, shown=values(3))
    raw = open_raw(path, load_descriptor("x", "umns2004"))
    np.testing.assert_array_equal(raw.read(), reflectances.transpose(2, 0, 1))


def test_a_file_of_unusual_name_is_read_by_the_form_of_its_suffix(tmp_path):
    cube = values(25)
    path = raw_files.mat5(tmp_path / "nf3112_104_MF.mat", cube=cube)
    np.testing.assert_array_equal(opened("hsidrive20", path).read(), cube.transpose(2, 0, 1))


def test_forms_by_suffix_and_for_folders(tmp_path):
    other = [
        {"files": "*_TC.mat", "variable": "tc"},
        {"files": "*.hdr", "container": "envi"},
        {"files": "*_ms", "container": "band_png"},
    ]

    def forms(**main):
        return Descriptor(container="matlab", variable="cube", other_forms=other, **main)

    for files in (None, "hyper/*", "*.mat"):
        assert forms(files=files).form_for(tmp_path / "scene1.mat").variable == "cube"
    assert forms(files="*.npy").form_for(tmp_path / "scene1.mat").variable == "tc"
    assert forms().form_for(tmp_path).container == "band_png"


def test_foreign_pictures_in_a_folder_of_bands(tmp_path):
    for nm in range(400, 710, 10):
        (tmp_path / f"{nm}nm.png").touch()
    for name in ("thumb_1.png", "a².png"):
        (tmp_path / name).touch()
    assert len(band_files(tmp_path)) == 33  # most names end in letters: who could tell which are none


def test_companions_are_found_from_inside_their_folder_and_in_capitals(tmp_path, monkeypatch):
    raw = published("hotnir", tmp_path).path
    companion = load_descriptor("x", "hotnir").companion_of(raw)
    companion.rename(companion.with_suffix(".JPG"))
    monkeypatch.chdir(raw.parent)
    attributes = convert_file(Path(raw.name), load_descriptor("x", "hotnir"), CubeSettings(), tmp_path / "a.zarr")
    assert attributes["rgb_source"] == "companion"
    said = hvlabel("convert", "--dataset", "cave", ".", tmp_path / "b.zarr")
    assert said.status == 2
    assert "1 PNG files for 31 bands" in said.err


def test_matlab_versions_are_told_apart_by_signature(tmp_path):
    cube = values(81, "u2")
    for path in (
        raw_files.mat5(tmp_path / "v5.h5", hypercube=cube),
        raw_files.mat73(tmp_path / "v73.mat", hypercube=cube),
    ):
        np.testing.assert_array_equal(opened("hs_sod", path).read(), cube.transpose(2, 0, 1))


def test_hyko_takes_the_wavelengths_of_the_file_where_it_has_them(tmp_path):
    for key, source in (("hykov2vis", "file"), ("hykov2nir", "descriptor")):
        raw = open_raw(published(key, tmp_path).path, load_descriptor("x", key))
        assert raw.wavelengths_from == source
    assert raw.wavelengths_nm[0] == 673.37
    never_filled_in = raw_files.mat5(tmp_path / "z.mat", data=values(25, "u2"), wavelengths=np.zeros(25))
    assert open_raw(never_filled_in, load_descriptor("x", "hykov2nir")).wavelengths_from == "descriptor"


def test_one_frame_of_every_hundred_and_a_calibrated_table(tmp_path):
    folder = tmp_path / "HSI-VIS"
    for name, n in (("a", 201), ("b", 3)):
        (folder / name).mkdir(parents=True)
        for k in range(1, n + 1):
            (folder / name / f"{k:04d}.png").touch()
    nm = [481, 491, 470, 460, 568, 579, 554, 543, 611, 620, 601, 591, 527, 539, 514, 504]
    calibrated = {"root": str(tmp_path), "descriptor": "hotvis", "wavelengths_nm": nm}
    datasets = {"hot": calibrated, "all": {**calibrated, "every": 1}}
    config = parse_config({"results": str(tmp_path / "r"), "datasets": datasets}, "test")
    images = scan(config).images
    of_hot = [i.image_id for i in images if i.dataset == "hot"]
    assert of_hot == ["HSI-VIS__a__0001", "HSI-VIS__a__0101", "HSI-VIS__a__0201", "HSI-VIS__b__0001"]
    assert sum(i.dataset == "all" for i in images) == 204
    described = config.datasets["hot"].described("hot")
    assert described.known_wavelengths_nm() == nm
    assert described.wavelength_confidence == "calibrated"
    assert Dataset(root="x", descriptor="hotvis").described("hot").wavelength_confidence == "placeholder"
