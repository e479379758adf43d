"""Chunks, bands, renderings, conversion and reading."""

import multiprocessing

import dask.array
import numpy as np
import pytest
import xarray
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvlabel.config import CubeSettings
from hvlabel.cube import open_cube
from hvlabel.cube.bands import evenly_spread, false_colour_frames, nearest_band
from hvlabel.cube.plan import chunk_side_px
from hvlabel.cube.render import choose_rendering, cie_weights, false_colour, stretch
from hvlabel.descriptors import Descriptor
from hvlabel.errors import BandError, CubeError, RawFileError
from hvlabel.stages.convert import convert_file

VISIBLE = np.linspace(400, 700, 31)


@given(st.integers(1, 5000), st.sampled_from([1, 2, 4, 8]))
def test_chunks_are_near_two_mebibytes_but_never_slivers(n_bands, itemsize):
    side = chunk_side_px(n_bands, itemsize)
    assert side in (16, 32, 64, 128)
    assert side == 16 or n_bands * side * side * itemsize <= 2 << 20
    assert side == 128 or n_bands * (2 * side) ** 2 * itemsize > 2 << 20


@given(st.lists(st.floats(380, 2500), min_size=3, max_size=200, unique=True), st.integers(1, 12))
def test_frames_take_bands_k_k_plus_s_k_plus_2s_by_wavelength(wavelengths_nm, max_frames):
    centres = np.array(wavelengths_nm)
    frames = false_colour_frames(centres, max_frames)
    stride, order = len(centres) // 3, np.sort(centres)
    assert len(frames) == min(stride, max_frames)
    assert frames[0].index == 0
    for frame in frames:
        red, green, blue = centres[list(frame.bands)]
        assert (blue, green, red) == tuple(order[[frame.index, frame.index + stride, frame.index + 2 * stride]])


def test_fewer_than_three_bands_still_make_a_frame():
    assert [f.bands for f in false_colour_frames(np.array([500.0]), 8)] == [(0, 0, 0)]
    assert [f.bands for f in false_colour_frames(np.array([700.0, 500.0]), 8)] == [(0, 0, 1)]


@given(st.integers(1, 100), st.integers(1, 20))
def test_evenly_spread_positions_are_distinct_and_include_the_ends(n, k):
    chosen = evenly_spread(n, k)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(n, k)
    assert chosen[0] == 0
    assert k == 1 or chosen[-1] == n - 1


def test_nearest_band_and_its_refusal():
    assert nearest_band(VISIBLE, 553, 15) == 15
    with pytest.raises(BandError, match=r"no band within 15 nm of 900 nm: the nearest is 700 nm.*raise band_tol_nm"):
        nearest_band(VISIBLE, 900, 15)


def test_a_flat_spectrum_is_neutral_and_pure_bands_have_their_colour():
    weights = cie_weights(VISIBLE)
    np.testing.assert_allclose(weights @ np.ones(31), 1, rtol=1e-5)
    assert (weights[:, 5] @ [0, 0, 1], weights[:, 14].argmax(), weights[:, 23].argmax()) == (weights[:, 5].max(), 1, 0)
    far = np.linspace(400, 1000, 61)
    np.testing.assert_array_equal(far[np.abs(cie_weights(far)).sum(axis=0) > 0].max(), 730)  # nothing is seen beyond


def test_rendering_is_chosen_by_coverage():
    assert choose_rendering(VISIBLE, CubeSettings()).kind == "cie"
    near_infrared = np.linspace(900, 1700, 64)
    rendering = choose_rendering(near_infrared, CubeSettings())
    assert rendering.kind == "triplet"
    red, green, blue = near_infrared[rendering.weights.argmax(axis=1)]
    assert red > green > blue
    assert choose_rendering(np.array([481.0, 568, 697, 840]), CubeSettings()).weights.argmax(axis=1).tolist() == [
        2,
        1,
        0,
    ]
    with pytest.raises(BandError, match="use rgb: triplet or auto"):
        choose_rendering(near_infrared, CubeSettings(rgb="cie"))


def test_stretch_survives_outliers_and_missing_values():
    linear = np.random.default_rng(0).uniform(0.2, 0.4, (50, 60, 3)).astype(np.float32)
    linear[0, 0] = 1e9
    linear[1, 1] = np.nan
    shown = stretch(linear, (1, 99), joint=False)
    assert shown[2:].std() > 40
    assert shown[1, 1].tolist() == [0, 0, 0]
    assert stretch(np.full((4, 4, 3), 7.0, np.float32), (1, 99), joint=True).std() == 0
    assert stretch(linear * np.float32(1e-38), (1, 99), joint=True).shape == linear.shape  # without a warning
    assert false_colour(linear.transpose(2, 0, 1)[:, 2:]).shape == (48, 60, 3)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("uint16", (20, 70, 90)), (">i2", (130, 150, 33)), ("float32", (5, 16, 16)), ("uint8", (3, 1, 2)), (">f8", (300, 40, 40)), ("float16", (4, 20, 150)), ("int64", (3, 9, 9))],
)  # fmt: skip
def test_values_survive_conversion_exactly(tmp_path, make_cube, dtype, shape):
    values = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    values.flat[0] = 101
    cube = make_cube(tmp_path / "a.zarr", values, scale=0.5)
    np.testing.assert_array_equal(cube.read(), values)
    np.testing.assert_array_equal(zarr.open_group(cube.path, mode="r")["cube"][:], values)
    np.testing.assert_allclose(cube.values(), values.astype(np.float32) * 0.5)
    assert (cube.height_px, cube.width_px) == shape[1:]
    assert cube.dtype == np.dtype(dtype).newbyteorder("=")
    assert cube.rgb.shape == (*shape[1:], 3)
    assert (cube.attributes["min"], cube.attributes["max"]) == (float(values.min()), float(values.max()))


@pytest.mark.parametrize("rot90", [0, 1, 3])
@pytest.mark.parametrize("axes", ["yxc", "ycx", "cyx", "xyc", "cxy"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_any_memory_order_survives_conversion_in_many_strips(tmp_path, monkeypatch, axes, rot90, dtype):
    monkeypatch.setattr("hvlabel.readers.slabs.SLAB_BYTES", 1 << 20)
    upright = np.random.default_rng(2).integers(0, 4000, (31, 530, 140)).astype(dtype)
    stored = np.rot90(upright, -rot90, axes=(1, 2)).transpose(["cyx".index(a) for a in axes])
    np.save(tmp_path / "a.npy", np.ascontiguousarray(stored))
    descriptor = Descriptor(container="npy", axes=axes, rot90=rot90, wavelengths_nm=tuple(np.linspace(400, 700, 31)))
    convert_file(tmp_path / "a.npy", descriptor, CubeSettings(), tmp_path / "a.zarr", threads=2)
    np.testing.assert_array_equal(open_cube(tmp_path / "a.zarr").read(), upright)


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_box_is_read_as_from_memory(tmp_path_factory, make_cube, data):
    folder = tmp_path_factory.getbasetemp() / "boxes.zarr"
    values = np.random.default_rng(5).integers(0, 4000, (250, 77, 130)).astype("uint16")
    cube = open_cube(folder) if folder.exists() else make_cube(folder, values)
    assert cube.chunk_side_px < 77  # several chunks each way
    box = [slice(*sorted(data.draw(st.tuples(st.integers(-3, n + 3), st.integers(-3, n + 3))))) for n in values.shape]
    np.testing.assert_array_equal(cube.read(rows=box[1], columns=box[2], bands=box[0]), values[tuple(box)])


def test_one_band_and_a_cube_read_in_a_forked_process(tmp_path, make_cube):
    values = np.random.default_rng(5).integers(0, 4000, (40, 50, 60)).astype("uint16")
    cube = make_cube(tmp_path / "a.zarr", values)
    np.testing.assert_array_equal(cube.read(bands=7), values[7:8])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(cube.read), values)


def test_a_cube_opens_in_zarr_and_in_xarray_with_dimensions_and_wavelengths(tmp_path, make_cube):
    values = np.random.default_rng(1).integers(0, 99, (31, 20, 30)).astype("uint16")
    make_cube(tmp_path / "a.zarr", values, VISIBLE)
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "a.zarr", mode="r")["cube"][:], values)
    opened = xarray.open_zarr(tmp_path / "a.zarr", consolidated=False)
    assert opened["cube"].dims == ("band", "y", "x")
    assert isinstance(opened["cube"].data, dask.array.Array)  # lazy
    np.testing.assert_array_equal(opened["cube"].values, values)
    np.testing.assert_allclose(opened["cube"].coords["wavelength_nm"].values, VISIBLE)
    assert opened["rgb"].dims == ("y", "x", "channel")


def test_missing_values_are_interpolated_along_the_spectrum(tmp_path, make_cube):
    values = np.random.default_rng(2).uniform(1, 2, (4, 8, 8)).astype(np.float32)
    before = values.copy()
    values[1, 2, 3] = np.nan
    values[3, 4, 4] = np.inf
    values[:, 5, 5] = np.nan
    cube = make_cube(tmp_path / "a.zarr", values, np.array([500.0, 520.0, 560.0, 600.0]))
    assert (cube.attributes["n_nonfinite"], cube.attributes["n_invalid_px"]) == (6, 1)
    read = cube.values()
    # a third of the way from 500 to 560 nm
    assert read[1, 2, 3] == pytest.approx(before[0, 2, 3] * 2 / 3 + before[2, 2, 3] / 3, rel=1e-6)
    assert read[3, 4, 4] == before[2, 4, 4]  # beyond the last one nothing is known
    assert (read[:, 5, 5] == np.float32(cube.attributes["min"])).all()
    expected = np.ones((8, 8), bool)
    expected[5, 5] = False
    np.testing.assert_array_equal(cube.valid, expected)
    sound = np.isfinite(values)
    np.testing.assert_array_equal(read[sound], values[sound])


@pytest.mark.parametrize(("value", "message"), [(np.nan, "no finite value"), (3.0, "every value of the cube is 3")])
def test_an_image_of_nothing_is_refused(tmp_path, make_cube, value, message):
    with pytest.raises(RawFileError, match=message):
        make_cube(tmp_path / "a.zarr", np.full((3, 5, 5), value, np.float32))


def test_flipped_bits_are_noticed_by_us_and_by_zarr(tmp_path, make_cube):
    values = np.random.default_rng(3).integers(0, 60_000, (30, 64, 64)).astype("uint16")
    shard = make_cube(tmp_path / "a.zarr", values).path / "cube" / "c" / "0" / "0" / "0"
    content = shard.read_bytes()
    for position in np.random.default_rng(4).integers(0, len(content), 12):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(position % 8)
        shard.write_bytes(bytes(damaged))
        with pytest.raises(CubeError, match="damaged"):
            open_cube(tmp_path / "a.zarr").values()
        with pytest.raises(Exception):  # noqa: B017 (of many kinds)
            zarr.open_group(tmp_path / "a.zarr", mode="r")["cube"][:]
    shard.write_bytes(content)
    np.testing.assert_array_equal(open_cube(tmp_path / "a.zarr").values(), values)
    shard.write_bytes(content[:-1000])
    with pytest.raises(CubeError, match="index is damaged"):
        open_cube(tmp_path / "a.zarr").values()


def test_a_missing_chunk_is_told_and_the_others_are_read(tmp_path, make_cube):
    values = np.random.default_rng(5).integers(1, 4000, (250, 77, 130)).astype("uint16")
    cube = make_cube(tmp_path / "a.zarr", values)
    side = cube.chunk_side_px
    zarr.open_group(cube.path, mode="r+")["cube"][:, :side, :side] = 0  # which zarr leaves out
    edited = open_cube(cube.path)
    np.testing.assert_array_equal(edited.read(columns=slice(side, None)), values[:, :, side:])
    with pytest.raises(CubeError, match="a chunk is missing"):
        edited.read(rows=0)


def test_foreign_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(CubeError, match="no such cube"):
        open_cube(tmp_path / "none.zarr")
    (tmp_path / "junk.zarr").mkdir()
    with pytest.raises(CubeError, match="not a finished cube of this project"):
        open_cube(tmp_path / "junk.zarr")
    zarr.create_group(tmp_path / "foreign.zarr")
    with pytest.raises(CubeError, match="not a finished cube of this project"):
        open_cube(tmp_path / "foreign.zarr")
