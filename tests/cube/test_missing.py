"""Dead bands, flat pictures and values at the edge of what a number can hold, from conversion through the branches."""

import numpy as np
import pytest

from hvlabel.branches.material import MaterialSettings
from hvlabel.branches.rgb import RgbSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.branches.voters import RegionsSettings
from hvlabel.config import CubeSettings
from hvlabel.cube.render import choose_rendering, cie_weights, stretch
from hvlabel.errors import BandError, RawFileError
from hvlabel.masks import decode
from hvlabel.readers.missing import filled, missing_values
from hvlabel.stages.segment import BranchRunner

VISIBLE = np.linspace(410, 710, 31)
INFRARED = np.linspace(750, 1000, 8)
RUNNERS = {
    "rgb": RgbSettings(backend="regions"),
    "sequence": SequenceSettings(backend="regions"),
    "material": MaterialSettings(backend="regions"),
    "regions": RegionsSettings(backend="regions"),
}


def scene(n_bands=31, seed=0, side=48):
    """(C, H, W) float32 reflectances of three materials with noise, and the place of two of them."""
    rng = np.random.default_rng(seed)
    spectra = rng.uniform(0.1, 0.9, (3, n_bands))
    place = np.zeros((side, side), int)
    place[6:20, 5:22], place[26:42, 20:40] = 1, 2
    values = spectra[place].transpose(2, 0, 1) + rng.normal(0, 0.004, (n_bands, side, side))
    return values.astype(np.float32), place


def assert_objects_are_found(cube, place, least=0.7, branches=RUNNERS):
    for branch in branches:
        masks = BranchRunner(branch, RUNNERS[branch]).masks(cube)
        for k in (1, 2):
            truth = place == k
            ious = [(m & truth).sum() / (m | truth).sum() for m in (decode(x.rle) for x in masks.masks)]
            assert max(ious, default=0) > least, (branch, k)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 65535.0, np.finfo(np.float32).max])
@pytest.mark.parametrize(
    ("wavelengths_nm", "dead"), [(VISIBLE, [0]), (VISIBLE, [14, 15]), (INFRARED, [1]), (INFRARED, [4])]
)
def test_dead_bands_are_left_out_of_the_picture(tmp_path, make_cube, wavelengths_nm, dead, value):
    values, place = scene(len(wavelengths_nm))
    values[dead] = value
    cube = make_cube(tmp_path / "a.zarr", values, wavelengths_nm)
    alive = np.setdiff1d(np.arange(len(values)), dead)
    assert cube.attributes["dead_bands"] == dead
    np.testing.assert_array_equal(cube.live_bands, alive)
    rendering = choose_rendering(wavelengths_nm[alive], CubeSettings())
    linear = np.einsum("kc,chw->hwk", rendering.weights, values[alive])
    expected = stretch(linear.astype(np.float32), CubeSettings().stretch_percentiles, joint=rendering.joint)
    assert np.abs(cube.rgb.astype(int) - expected).max() <= 1
    assert np.ptp(cube.rgb) > 200
    assert np.isfinite(cube.values()).all()
    assert_objects_are_found(cube, place)
    for masks in (BranchRunner("sequence", RUNNERS["sequence"]).masks(cube),):
        assert not {b for m in masks.masks for b in m.bands} & set(dead)


def test_a_cube_with_all_visible_bands_dead_is_drawn_from_the_others(tmp_path, make_cube):
    wavelengths_nm = np.concatenate([VISIBLE, INFRARED])
    values, _ = scene(len(wavelengths_nm))
    values[: len(VISIBLE)] = np.nan
    cube = make_cube(tmp_path / "a.zarr", values, wavelengths_nm)
    assert cube.attributes["rgb_source"] == "triplet"
    assert np.ptp(cube.rgb) > 200
    with pytest.raises(BandError, match="cie"):
        make_cube(tmp_path / "b.zarr", values, wavelengths_nm, settings=CubeSettings(rgb="cie"))


def test_weights_of_the_living_sum_to_one():
    dead = np.isin(np.arange(31), [3, 15])
    weights = choose_rendering(VISIBLE, CubeSettings(), dead).weights
    assert not weights[:, dead].any()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(weights[:, ~dead], cie_weights(VISIBLE[~dead]))


@pytest.mark.parametrize("kind", ["each band one value", "companion of one colour"])
def test_no_contrast_is_a_failure_and_never_an_empty_label(tmp_path, make_cube, as_raw_image, kind):
    if kind == "each band one value":
        values = np.broadcast_to(np.arange(5.0, dtype=np.float32)[:, None, None], (5, 9, 9)).copy()
        with pytest.raises(RawFileError, match="one single value throughout"):
            make_cube(tmp_path / "a.zarr", values)
        return
    from hvlabel.cube import write_cube

    with pytest.raises(RawFileError, match="no contrast"):
        write_cube(tmp_path / "a.zarr", as_raw_image(scene(5)[0]), np.zeros((9, 9, 3), np.uint8), CubeSettings())


def test_a_few_different_pixels_are_contrast(tmp_path, make_cube):
    values = np.full((31, 50, 50), 0.25, np.float32)
    values[:, 20:23, 20:23] = 0.2500001  # less than a percent of the image, and hardly different
    assert np.ptp(make_cube(tmp_path / "a.zarr", values, VISIBLE).rgb) > 100


def test_missing_pixels_of_one_band_do_not_blacken_theirs(tmp_path, make_cube):
    values, place = scene(31)
    rng = np.random.default_rng(1)
    slow = np.sin(np.arange(31)[:, None] / 8 + np.array([0.0, 1.5, 3.0])) * 0.3 + 0.5  # as materials are
    values = (slow[:, place] + (values - np.median(values, axis=(1, 2), keepdims=True)) * 0.02).astype(np.float32)
    holes = rng.random(values.shape) < 0.05
    broken = np.where(holes, np.float32(np.nan), values)
    cube, whole = (make_cube(tmp_path / f"{k}.zarr", v, VISIBLE) for k, v in enumerate((broken, values)))
    assert cube.valid is None
    assert np.abs(cube.rgb.astype(int) - whole.rgb).mean() < 12
    assert_objects_are_found(cube, place)


def test_filled_is_interpolation_in_wavelength_order():
    nm = np.array([600.0, 500.0, 700.0, 900.0])
    values = np.array([np.nan, 1.0, 5.0, np.nan], np.float32)[:, None, None]
    out = filled(values, np.isnan(values), nm)
    np.testing.assert_allclose(out.ravel(), [3.0, 1.0, 5.0, 5.0])
    rng = np.random.default_rng(2)
    many = rng.random((9, 4, 5)).astype(np.float32)
    gone = rng.random(many.shape) < 0.5
    gone[:, 0, 0] = True
    centres = rng.permutation(np.linspace(400, 800, 9))
    got = filled(np.where(gone, np.nan, many).astype(np.float32), gone, centres)
    assert np.isnan(got[:, 0, 0]).all()
    order = np.argsort(centres)
    for y, x in np.ndindex(4, 5):
        known = order[~gone[order, y, x]]
        if len(known):
            np.testing.assert_allclose(got[:, y, x], np.interp(centres, centres[known], many[known, y, x]), rtol=1e-5)


def test_what_is_missing():
    values = np.array([1, 7, np.nan, np.inf, np.finfo(np.float32).max, -np.finfo(np.float32).max], np.float32)
    np.testing.assert_array_equal(missing_values(values, (7.0,)), [False, True, True, True, True, True])
    assert missing_values(np.array([1, 2], np.uint8), (9.0,)) is None
    assert missing_values(np.array([1, 2], np.uint8), ()) is None


@pytest.mark.parametrize("factor", [1.0, -1.0, 1e-30, 1e-36, 1e30, 1e37, 3e38])
def test_the_unit_of_the_values_does_not_matter(tmp_path, make_cube, factor):
    values, place = scene(31)
    plain = make_cube(tmp_path / "a.zarr", values - np.float32(0.3 if factor > 0 else 0), VISIBLE)
    scaled = make_cube(
        tmp_path / "b.zarr", (values - np.float32(0.3 if factor > 0 else 0)) * np.float32(factor), VISIBLE
    )
    if factor > 0:
        assert np.abs(scaled.rgb.astype(int) - plain.rgb).max() <= 1
    assert_objects_are_found(scaled, place)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "float64", "int16", "uint8"])
def test_every_type_through_the_branches(tmp_path, make_cube, dtype):
    values, place = scene(31)
    largest = 250 if dtype == "uint8" else 30_000 if dtype == "int16" else 2e9
    cube = make_cube(tmp_path / "a.zarr", (values * largest / values.max()).astype(dtype), VISIBLE)
    assert_objects_are_found(cube, place)


@pytest.mark.parametrize("n_bands", [1, 2, 3, 4])
def test_few_bands(tmp_path, make_cube, n_bands):
    values, place = scene(n_bands, seed=4)
    cube = make_cube(tmp_path / "a.zarr", values, np.linspace(500, 800, n_bands))
    # two bands have one ratio, which two of three materials may share; colours and frames keep the brightness
    assert_objects_are_found(cube, place, branches=RUNNERS if n_bands != 2 else ("rgb", "sequence"))
    for branch, settings in RUNNERS.items():
        assert len(BranchRunner(branch, settings).masks(cube)) > 0


def test_a_spectrometer_of_two_thousand_bands(tmp_path, make_cube):
    values, place = scene(2151, side=48)
    cube = make_cube(tmp_path / "a.zarr", values, np.linspace(350, 2500, 2151))
    assert_objects_are_found(cube, place)


def test_values_beyond_float32_are_missing(tmp_path, make_cube):
    values = scene(5)[0].astype(np.float64)
    values[2, 3, 4] = 1e300
    cube = make_cube(tmp_path / "a.zarr", values)
    assert cube.attributes["n_nonfinite"] == 1
    assert np.isfinite(cube.values()).all()
    with pytest.raises(RawFileError, match="beyond float32"):
        make_cube(tmp_path / "b.zarr", scene(5)[0].astype(np.float64) * 1e300)
