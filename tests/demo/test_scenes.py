"""Generated scenes: reproducible, real raw files, metamers that only the spectrum shows."""

import hashlib

import numpy as np
import pytest

from hvlabel.config import CubeSettings, Dataset
from hvlabel.cube import open_cube
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.files import write_scenes
from hvlabel.demo.materials import MATERIALS, illuminant, metamer
from hvlabel.demo.paths import demo_paths
from hvlabel.demo.scenes import N_SPECTRAL_ONLY, make_scene
from hvlabel.masks import decode, read_masks
from hvlabel.stages.convert import convert_file


def test_equal_seeds_give_equal_scenes():
    first, again, other = (make_scene(CAMERAS["vis31"], 96, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.signal, again.signal)
    assert first.signal.shape == (31, 96, 96)
    assert not np.array_equal(first.signal, other.signal)


def test_there_are_twelve_materials_in_range():
    assert len(MATERIALS) == 12
    for name, spectrum in MATERIALS.items():
        assert 0 < spectrum.min() < spectrum.max() < 1, name


@pytest.mark.parametrize("camera", CAMERAS)
def test_metamers_have_the_same_rgb_and_another_spectrum(camera):
    rgb = CAMERAS[camera].rgb_response() * illuminant()
    bands = CAMERAS[camera].response() * illuminant()
    rng = np.random.default_rng(0)
    for base in MATERIALS.values():
        twin = metamer(base, rgb, rng)
        np.testing.assert_allclose(rgb @ twin, rgb @ base, atol=1e-6)
        assert twin.min() >= 0.0099
        assert twin.max() <= 0.9901
    assert np.abs(bands @ metamer(MATERIALS["concrete"], rgb, rng) - bands @ MATERIALS["concrete"]).max() > 0.01


@pytest.mark.parametrize("camera", CAMERAS)
def test_raw_files_are_read_like_anyones_and_match_their_truth(tmp_path, camera):
    dataset = Dataset(demo=camera, demo_scenes=2, demo_size_px=160)
    assert write_scenes("d", dataset, tmp_path) == 2
    paths = demo_paths("d", dataset, tmp_path)
    before = [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]
    attributes = convert_file(paths[0], CAMERAS[camera].descriptor, CubeSettings(), tmp_path / "a.zarr")
    assert attributes["rgb_source"] == {"nir25": "companion", "mosaic16": "triplet"}.get(camera, "cie")
    cube = open_cube(tmp_path / "a.zarr")
    np.testing.assert_allclose(cube.wavelengths_nm, CAMERAS[camera].centres_nm, atol=0.01)
    truth = read_masks(tmp_path / "demo" / "d" / "truth" / f"{paths[0].stem}.json")
    assert (truth.height_px, truth.width_px) == (cube.height_px, cube.width_px) == (160, 160)
    hidden = [m for m in truth.masks if m.extra["spectral_only"]]
    assert 2 <= len(hidden) <= N_SPECTRAL_ONLY
    assert len({m.extra["material"] for m in truth.masks}) > 3
    values = cube.values() / cube.values().mean()
    for mask in hidden:  # spectrally apart from its surround, in RGB not
        inside = decode(mask.rle)
        ring = _ring(inside)
        spectral = np.abs(
            values[:, inside].mean(1) / values[:, inside].mean() - values[:, ring].mean(1) / values[:, ring].mean()
        )
        colour = np.abs(np.median(cube.rgb[inside].astype(float), 0) - np.median(cube.rgb[ring].astype(float), 0))
        assert spectral.max() > 0.04
        assert colour.max() < 25
    if camera != "vnir128":  # its header carries the same bytes, its data lie beside it
        write_scenes("d", dataset, tmp_path)
        if camera != "vis31":  # HDF5 stores creation times
            assert [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths] == before


def _ring(mask):
    import cv2

    kernel = np.ones((9, 9), np.uint8)
    return (cv2.dilate(mask.astype(np.uint8), kernel) > 0) & ~mask
