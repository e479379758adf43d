"""What files say about their values: no data, bad bands, gains, widths, place on the ground."""

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

from hvlabel.branches.material import MaterialSettings, spectral_components
from hvlabel.branches.rgb import RgbSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.branches.voters import RegionsSettings
from hvlabel.config import CubeSettings
from hvlabel.cube import open_cube
from hvlabel.descriptors import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.masks import decode
from hvlabel.readers import first_line, open_raw
from hvlabel.stages.convert import convert_file
from hvlabel.stages.segment import BranchRunner

N, H, W = 8, 40, 48
NM = [420.0 + 40 * k for k in range(N)]
IGNORED = -9999
GAINS = np.linspace(0.001, 0.004, N)
OFFSETS = np.linspace(-0.1, 0.2, N)
HOLE = np.zeros((H, W), bool)
HOLE[:, 30:] = True


def scene():
    """(C, H, W) int16: two objects of other materials on a ground, noise, no data on the right."""
    rng = np.random.default_rng(3)
    spectra = rng.uniform(300, 3000, (3, N))
    place = np.zeros((H, W), int)
    place[5:17, 4:18], place[22:34, 12:26] = 1, 2
    values = (spectra[place].transpose(2, 0, 1) + rng.normal(0, 8, (N, H, W))).astype("i2")
    values[:, HOLE] = IGNORED
    return values, place


SCENE, PLACE = scene()


def envi(folder, values=SCENE, extra=""):
    values.astype("<i2").tofile(folder / "a.raw")
    (folder / "a.hdr").write_text(
        f"ENVI\nsamples = {W}\nlines = {H}\nbands = {N}\ndata type = 2\ninterleave = bsq\nbyte order = 0\n"
        f"wavelength units = Nanometers\nwavelength = {{{', '.join(map(str, NM))}}}\ndata ignore value = {IGNORED}\n{extra}"
    )
    return folder / "a.hdr", Descriptor(container="envi")


def hdf5(folder, values=SCENE, **attributes):
    with h5py.File(folder / "a.h5", "w") as file:
        file["cube"] = values
        file["wavelength"] = NM
        for name, value in {"_FillValue": np.int16(IGNORED), **attributes}.items():
            file["cube"].attrs[name] = value
    return folder / "a.h5", Descriptor(container="hdf5", axes="cyx")


def tiff(folder, values=SCENE, items="", tags=()):
    xml = "".join(f'<Item name="wavelength" sample="{k}">{w}</Item>' for k, w in enumerate(NM)) + items
    tifffile.imwrite(
        folder / "a.tif", values, photometric="minisblack", planarconfig="separate", metadata=None,
        extratags=[(42112, 2, 0, f"<GDALMetadata>{xml}</GDALMetadata>", True), (42113, 2, 0, str(IGNORED), True), *tags],
    )  # fmt: skip
    return folder / "a.tif", Descriptor(container="tiff", axes="cyx")


def converted(path, descriptor):
    out = path.with_suffix(".zarr")
    convert_file(path, descriptor, CubeSettings(), out)
    return open_cube(out)


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
    other = converted(*envi_of(tmp_path / "alone", alone))
    np.testing.assert_array_equal(cube.rgb[:, :30], other.rgb)
    components = spectral_components(cube.live_values(), 4, cube.valid)
    expected = spectral_components(other.live_values(), 4)
    np.testing.assert_allclose(np.abs(components[:, :30] - 0.5), np.abs(expected - 0.5), atol=1e-5)
    assert (components[HOLE] == 0.5).all()


def envi_of(folder, values):
    folder.mkdir()
    values.astype("<i2").tofile(folder / "b.raw")
    n, h, w = values.shape
    (folder / "b.hdr").write_text(
        f"ENVI\nsamples = {w}\nlines = {h}\nbands = {n}\ndata type = 2\ninterleave = bsq\nbyte order = 0\n"
        f"wavelength = {{{', '.join(map(str, NM))}}}\n"
    )
    return folder / "b.hdr", Descriptor(container="envi")


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
    masks = BranchRunner(branch, settings).masks(cube)
    assert len(masks) > 0
    union = np.zeros((H, W), bool)
    for mask in masks.masks:
        inside = decode(mask.rle)
        assert inside.any()
        union |= inside
    assert not (union & HOLE).any()
    for k in (1, 2):
        truth = k == PLACE
        best = max((decode(m.rle) & truth).sum() / (decode(m.rle) | truth).sum() for m in masks.masks)
        assert best > 0.9 or branch == "regions"


def test_an_ignore_value_that_the_type_cannot_hold_means_nothing(tmp_path):
    values = np.abs(SCENE).astype("u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"] = values
        file["cube"].attrs["_FillValue"] = -1.5
        file["wavelength"] = NM
    cube = converted(tmp_path / "a.h5", Descriptor(container="hdf5", axes="cyx"))
    assert cube.attributes["ignore_values"] == []
    assert cube.valid is None


@pytest.mark.parametrize("name", ["_FillValue", "missing_value", "Data_Ignore_Value", "nodata"])
def test_every_name_of_the_ignore_value_in_hdf5(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"], file["wavelength"] = SCENE, NM
        file["cube"].attrs[name] = [np.int16(IGNORED)]
    assert open_raw(tmp_path / "a.h5", Descriptor(container="hdf5", axes="cyx")).ignore_values == (IGNORED,)


def test_single_missing_values_do_not_make_a_pixel_invalid(tmp_path):
    values = SCENE.copy()
    values[3, 10, 10] = IGNORED
    cube = converted(*envi(tmp_path, values))
    assert cube.valid[10, 10]
    neighbours = (values[2, 10, 10] + values[4, 10, 10]) / 2
    assert cube.values()[3, 10, 10] == pytest.approx(neighbours)


BBL = [1, 1, 0, 1, 1, 0, 1, 1]
KEPT = [k for k, good in enumerate(BBL) if good]


def bbl_envi(folder):
    return envi(folder, extra=f"bbl = {{{', '.join(map(str, BBL))}}}\n")


def bbl_hdf5(folder):
    path, descriptor = hdf5(folder)
    with h5py.File(path, "a") as file:
        file["bbl"] = BBL
    return path, descriptor


def bbl_attribute(folder):
    return hdf5(folder, bbl=BBL)


def bbl_tiff(folder):
    return tiff(folder, items="".join(f'<Item name="bbl" sample="{k}">{good}</Item>' for k, good in enumerate(BBL)))


def bbl_matlab(folder):
    content = {"cube": SCENE.transpose(1, 2, 0), "wavelength": np.array(NM), "bbl": np.array(BBL, bool)}
    scipy.io.savemat(folder / "a.mat", content)
    return folder / "a.mat", Descriptor(container="matlab")


@pytest.mark.parametrize("write", [bbl_envi, bbl_hdf5, bbl_attribute, bbl_tiff, bbl_matlab])
def test_bad_bands_are_left_out(tmp_path, write):
    path, descriptor = write(tmp_path)
    raw = open_raw(path, descriptor)
    assert raw.wavelengths_nm == tuple(NM[k] for k in KEPT)
    np.testing.assert_array_equal(raw.read(), SCENE[KEPT])
    assert raw.bad_bands == (2, 5)
    kept = open_raw(path, descriptor.model_copy(update={"bad_bands": "keep"}))
    np.testing.assert_array_equal(kept.read(), SCENE)
    for given in (NM, [NM[k] for k in KEPT]):  # centres of all bands, or of the good ones
        own = open_raw(path, descriptor.model_copy(update={"wavelengths_nm": [nm + 1 for nm in given]}))
        assert own.wavelengths_nm == tuple(NM[k] + 1 for k in KEPT)
    dropped = open_raw(path, descriptor.model_copy(update={"drop_bands": (0, 2)}))
    np.testing.assert_array_equal(dropped.read(), SCENE[KEPT[1:]])


def test_a_bad_band_list_that_makes_no_sense_is_a_sentence(tmp_path):
    with pytest.raises(RawFileError, match="bbl holds 3 values for 8 bands"):
        open_raw(*envi(tmp_path, extra="bbl = {1, 0, 1}\n"))
    with pytest.raises(RawFileError, match="leaves no band"):
        open_raw(*envi(tmp_path, extra=f"bbl = {{{', '.join('0' * N)}}}\n"))


def gains_envi(folder):
    listed = [", ".join(map(repr, v.tolist())) for v in (GAINS, OFFSETS)]
    return envi(folder, extra=f"data gain values = {{{listed[0]}}}\ndata offset values = {{{listed[1]}}}\n")


def gains_hdf5(folder):
    return hdf5(folder, scale_factor=GAINS, add_offset=OFFSETS)


def gains_tiff(folder):
    items = "".join(
        f'<Item name="SCALE" sample="{k}" role="scale">{g!r}</Item><Item name="OFFSET" sample="{k}" role="offset">{o!r}</Item>'
        for k, (g, o) in enumerate(zip(GAINS.tolist(), OFFSETS.tolist(), strict=True))
    )
    return tiff(folder, items=items)


@pytest.mark.parametrize("write", [gains_envi, gains_hdf5, gains_tiff])
def test_gains_and_offsets_by_band_are_applied(tmp_path, write):
    path, descriptor = write(tmp_path)
    expected = SCENE * GAINS[:, None, None] + OFFSETS[:, None, None]
    cube = converted(path, descriptor)
    np.testing.assert_allclose(cube.values()[:, ~HOLE], expected[:, ~HOLE], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(cube.valid, ~HOLE)  # what stands for no data is known before gains change it
    assert cube.attributes["gains_applied"]
    np.testing.assert_allclose(first_line(open_raw(path, descriptor))[:30], expected[0, 0, :30], rtol=1e-5)
    own = open_raw(path, descriptor.model_copy(update={"scale": 0.5}))  # the descriptor knows better
    assert (own.scale, own.dtype, own.gain) == (0.5, np.dtype("i2"), None)
    np.testing.assert_array_equal(own.read(), SCENE)


def test_one_gain_for_all_is_a_scale_and_values_stay_integers(tmp_path):
    raw = open_raw(*hdf5(tmp_path, scale_factor=np.float64(0.0001)))
    assert (raw.scale, raw.dtype) == (0.0001, np.dtype("i2"))
    neon = open_raw(*hdf5(tmp_path, Scale_Factor=10000.0))  # NEON's divides
    assert (neon.scale, neon.unit) == (pytest.approx(1e-4), "reflectance")
    equal = ", ".join(["2.5"] * N)
    assert open_raw(*envi(tmp_path, extra=f"data gain values = {{{equal}}}\n")).scale == 2.5
    both = envi(tmp_path, extra=f"data gain values = {{{equal}}}\nreflectance scale factor = 100\n")
    assert open_raw(*both).scale == pytest.approx(0.025)
    with pytest.raises(RawFileError, match="3 gains for 8 bands"):
        open_raw(*envi(tmp_path, extra="data gain values = {1, 2, 3}\n"))
    offset = converted(*hdf5(tmp_path, scale_factor=0.5, add_offset=10.0))
    np.testing.assert_allclose(offset.values()[:, ~HOLE], SCENE[:, ~HOLE] * 0.5 + 10)


def test_band_widths_are_kept(tmp_path):
    widths = [10.0 + k for k in range(N)]
    in_um = envi(
        tmp_path, extra=f"fwhm = {{{', '.join(str(w) for w in widths)}}}\nbbl = {{{', '.join(map(str, BBL))}}}\n"
    )
    assert converted(*in_um).attributes["fwhm_nm"] == [widths[k] for k in KEPT]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["cube"], file["wavelength"], file["fwhm"] = SCENE, np.array(NM) / 1000, np.array(widths) / 1000
    np.testing.assert_allclose(open_raw(tmp_path / "b.h5", Descriptor(container="hdf5", axes="cyx")).fwhm_nm, widths)
    items = "".join(f'<Item name="fwhm" sample="{k}">{w}</Item>' for k, w in enumerate(widths))
    assert open_raw(*tiff(tmp_path, items=items)).fwhm_nm == tuple(widths)


def test_gdal_items_carried_over_from_an_envi_header(tmp_path):
    items = "".join(f'<Item name="Band_{k + 1}">{nm / 1000} Micrometers</Item>' for k, nm in enumerate(NM))
    xml = f"<GDALMetadata>{items}</GDALMetadata>"
    tifffile.imwrite(
        tmp_path / "a.tif", SCENE.transpose(1, 2, 0), photometric="minisblack", planarconfig="contig", metadata=None,
        extratags=[(42112, 2, 0, xml, True)],
    )  # fmt: skip
    raw = open_raw(tmp_path / "a.tif", Descriptor(container="tiff"))
    np.testing.assert_allclose(raw.wavelengths_nm, NM)
    np.testing.assert_array_equal(raw.read(), SCENE)


UTM = "UTM, 1.000, 1.000, 500000.000, 4600000.000, 2.0, 2.0, 33, North, WGS-84, units=Meters"


def test_map_info_is_kept_and_follows_turns_and_cut_rows(tmp_path):
    path, descriptor = envi(tmp_path, extra=f"map info = {{{UTM}}}\n")
    kept = converted(path, descriptor).attributes["georeference"]
    assert kept["crs"] == "EPSG:32633"
    assert kept["transform"] == [2, 0, 500000, 0, -2, 4600000]
    for rot90 in range(4):
        turned = open_raw(path, descriptor.model_copy(update={"rot90": rot90, "drop_rows": (0, 1)}))
        a, b, c, d, e, f = turned.georeference.transform
        columns, rows = np.meshgrid(np.arange(turned.shape[2]) + 0.5, np.arange(turned.shape[1]) + 0.5)
        x, y = a * columns + b * rows + c, d * columns + e * rows + f
        stored_x, stored_y = np.meshgrid(500000 + 2 * (np.arange(W) + 0.5), 4600000 - 2 * (np.arange(2, H) + 0.5))
        np.testing.assert_allclose(x, np.rot90(stored_x, rot90))
        np.testing.assert_allclose(y, np.rot90(stored_y, rot90))
    gap = open_raw(path, descriptor.model_copy(update={"drop_rows": (5,)}))
    assert gap.georeference is None  # no one transform fits any more


def test_geotiff_tags_are_kept(tmp_path):
    tags = [
        (33550, "d", 3, (30.0, 30.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 600000.0, 5000000.0, 0.0), True),
        (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32616), True),
    ]
    kept = converted(*tiff(tmp_path, tags=tags)).attributes["georeference"]
    assert (kept["crs"], kept["transform"]) == ("EPSG:32616", [30, 0, 600000, 0, -30, 5000000])
    tags[2] = (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 2, 2048, 0, 1, 4326), True)
    point = open_raw(*tiff(tmp_path, tags=tags)).georeference
    assert (point.crs, point.transform) == ("EPSG:4326", (30, 0, 599985, 0, -30, 5000015))


def test_the_place_travels_to_masks_and_label(tmp_path):
    from hvlabel.config.fusion import FusionSettings
    from hvlabel.masks import read_document
    from hvlabel.stages.fuse import fuse_files
    from hvlabel.stages.segment import segment_file

    path, descriptor = envi(tmp_path, extra=f"map info = {{{UTM}}}\n")
    cube = converted(path, descriptor)
    segment_file(BranchRunner("rgb", RgbSettings(backend="regions")), cube.path, tmp_path / "rgb.json")
    fuse_files([tmp_path / "rgb.json"], FusionSettings(), tmp_path / "label.json", cube.path)
    for name in ("rgb.json", "label.json"):
        provenance = read_document(tmp_path / name)["provenance"]
        assert provenance["georeference"]["crs"] == "EPSG:32633"
        assert provenance["wavelength_confidence"] == "calibrated"


def test_band_numbers_are_known_by_the_whole_list(tmp_path):
    path, descriptor = envi(tmp_path)
    numbers = path.read_text().replace(", ".join(map(str, NM)), ", ".join(map(str, range(1, N + 1))))
    path.write_text(numbers.replace("wavelength units = Nanometers\n", "") + "bbl = {1, 1, 1, 0, 1, 1, 1, 1}\n")
    for form in (descriptor, descriptor.model_copy(update={"drop_bands": (0,)})):
        with pytest.raises(RawFileError, match="numbers of the bands"):
            open_raw(path, form)


def test_zeros_for_the_centres_of_dropped_bands_do_no_harm(tmp_path):
    path, descriptor = envi(tmp_path)
    path.write_text(path.read_text().replace(str(NM[0]), "0"))
    kept = open_raw(path, descriptor.model_copy(update={"drop_bands": (0,)}))
    assert kept.wavelengths_nm == tuple(NM[1:])


def test_names_of_vectors_are_told_apart(tmp_path):
    def write(**more):
        scipy.io.savemat(tmp_path / "a.mat", {"cube": SCENE.transpose(1, 2, 0), **more})
        return tmp_path / "a.mat", Descriptor(container="matlab")

    falling = np.linspace(950, 1800, N)
    np.testing.assert_allclose(open_raw(*write(wavenumber=falling)).wavelengths_nm, 1e7 / falling)
    both = open_raw(
        *write(wavelength=np.array(NM), wavelength_fwhm=np.linspace(5.1, 9, N), alignment=np.linspace(401, 900, N))
    )
    assert both.wavelengths_nm == tuple(NM)
    with pytest.raises(RawFileError, match="names no wavelengths"):
        open_raw(*write(waveFWHM=np.linspace(5.1, 9, N)))
    twice = {"wavelength": np.array(NM, np.float32) + 0.123, "wavelength_nm": np.array(NM) + 0.123}
    np.testing.assert_allclose(open_raw(*write(**twice)).wavelengths_nm, np.array(NM) + 0.123, rtol=1e-6)
    mosaic = np.random.default_rng(0).permutation(NM)
    assert open_raw(*write(wavelength=mosaic)).wavelengths_nm == tuple(mosaic)
    with pytest.raises(RawFileError, match="without a unit"):  # said in its own words, not as if there were none
        open_raw(*write(wavelength=np.linspace(40, 90, N)))


def test_gains_do_not_make_numbers_of_missing_values(tmp_path):
    values = (SCENE / 4000).astype("<f4")
    values[:, HOLE] = np.finfo(np.float32).min
    values.tofile(tmp_path / "a.raw")
    gains = ", ".join(str(0.1 + 0.01 * k) for k in range(N))
    (tmp_path / "a.hdr").write_text(
        f"ENVI\nsamples = {W}\nlines = {H}\nbands = {N}\ndata type = 4\ninterleave = bsq\nbyte order = 0\n"
        f"wavelength = {{{', '.join(map(str, NM))}}}\ndata gain values = {{{gains}}}\n"
    )
    cube = converted(tmp_path / "a.hdr", Descriptor(container="envi"))
    np.testing.assert_array_equal(cube.valid, ~HOLE)
    assert abs(cube.attributes["min"]) < 1


def test_a_stuck_band_makes_no_pixel_valid_and_no_neighbour_of_it(tmp_path):
    values = SCENE.copy()
    values[3] = 7
    values[2, 10, 10] = IGNORED
    cube = converted(*envi(tmp_path, values))
    assert cube.attributes["dead_bands"] == [3]
    np.testing.assert_array_equal(cube.valid, ~HOLE)
    assert cube.values()[2, 10, 10] == pytest.approx((2 * values[1, 10, 10] + values[4, 10, 10]) / 3)
    assert (cube.attributes["min"], cube.attributes["max"]) == (
        np.delete(values, 3, 0)[np.delete(values, 3, 0) != IGNORED].min(),
        np.delete(values, 3, 0).max(),
    )
    stored = cube.plain(cube.read())
    assert stored.min() == cube.attributes["min"]
    assert stored.max() == cube.attributes["max"]


def test_a_missing_value_of_the_picture_comes_from_the_pixels_own_spectrum(tmp_path):
    infrared = np.linspace(900, 1700, 30)
    y, x = np.mgrid[:H, :W]
    smooth = (1000 + 10 * y + 5 * x + 20 * np.arange(30)[:, None, None]).astype("<i2")
    for name, missing in (("a", []), ("b", [25]), ("c", [5, 15, 25])):
        values = smooth.copy()
        values[np.ix_(missing, range(20, 24), range(20, 24))] = IGNORED
        values.tofile(tmp_path / f"{name}.raw")
        (tmp_path / f"{name}.hdr").write_text(
            f"ENVI\nsamples = {W}\nlines = {H}\nbands = 30\ndata type = 2\ninterleave = bsq\nbyte order = 0\n"
            f"wavelength = {{{', '.join(map(str, infrared))}}}\ndata ignore value = {IGNORED}\n"
        )
    whole, one, three = (converted(tmp_path / f"{n}.hdr", Descriptor(container="envi")).rgb.astype(int) for n in "abc")
    assert np.abs(one - whole).max() <= 1
    assert np.abs(three - whole).max() <= 1


def test_gdal_items_of_some_bands_and_lists_for_all(tmp_path):
    some = "".join(f'<Item name="OFFSET" sample="{k}" role="offset">{k + 1}</Item>' for k in range(3))
    offset = open_raw(*tiff(tmp_path, items=some)).offset.ravel()
    np.testing.assert_array_equal(offset, [1, 2, 3, 0, 0, 0, 0, 0])
    assert open_raw(*tiff(tmp_path, items='<Item name="bbl" sample="2">0</Item>')).bad_bands == (2,)
    whole = f'<Item name="bbl" domain="ENVI">{{{", ".join(map(str, BBL))}}}</Item>'
    assert open_raw(*tiff(tmp_path, items=whole)).bad_bands == (2, 5)
    um = "".join(f'<Item name="FWHM_UM" sample="{k}" domain="IMAGERY">0.010</Item>' for k in range(N))
    np.testing.assert_allclose(
        open_raw(*tiff(tmp_path, items=um + '<Item name="wavelength_units">Nanometers</Item>')).fwhm_nm, 10
    )
    named = "".join(f'<Item name="wavelength" sample="{k}">{nm:g} nm</Item>' for k, nm in enumerate(NM))
    assert open_raw(*tiff(tmp_path, items=named)).wavelengths_nm == tuple(NM)


def test_the_vectors_of_the_cubes_own_group_count(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for group, bad, width in (("swir", 2, 10.0), ("vnir", 5, 5.0)):
            file[f"{group}/cube"], file[f"{group}/wavelength"] = SCENE, NM
            file[f"{group}/bbl"] = [int(k != bad) for k in range(N)]
            file[f"{group}/fwhm"] = np.full(N, width / 1000)
            file[f"{group}/fwhm"].attrs["units"] = "um"
    raw = open_raw(tmp_path / "a.h5", Descriptor(container="hdf5", axes="cyx", variable="vnir/cube"))
    assert raw.bad_bands == (5,)
    np.testing.assert_allclose(raw.fwhm_nm, 5)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["cube"] = SCENE
        for group, bad in (("one", 2), ("two", 5)):
            file[f"{group}/bbl"] = [int(k != bad) for k in range(N)]
    with pytest.raises(RawFileError, match="one/bbl and two/bbl differ"):
        open_raw(tmp_path / "b.h5", Descriptor(container="hdf5", axes="cyx", wavelengths_nm=NM))
    path, descriptor = hdf5(tmp_path, bbl=np.array(BBL, bool))
    assert open_raw(path, descriptor).bad_bands == (2, 5)


def test_exchanged_axes_exchange_the_place_too(tmp_path):
    path, descriptor = envi(tmp_path, extra=f"map info = {{{UTM}}}\n")
    turned = open_raw(path, descriptor.model_copy(update={"axes": "xyc"}))
    assert turned.shape == (N, W, H)
    assert turned.georeference.transform == (0, 2, 500000, -2, 0, 4600000)
    path, descriptor = envi(tmp_path, extra="map info = {Arbitrary, 1, 1, 0, 0, 1, 1}\n")
    assert open_raw(path, descriptor).georeference is None


def test_several_values_may_stand_for_no_data(tmp_path):
    values = SCENE.copy()
    values[:, 0] = -32767
    cube = converted(*hdf5(tmp_path, values, missing_value=np.int16(-32767)))
    assert sorted(cube.attributes["ignore_values"]) == [-32767, IGNORED]
    expected = ~HOLE
    expected[0] = False
    np.testing.assert_array_equal(cube.valid, expected)
    wide = SCENE.astype("i8")
    wide[:, HOLE] = -9223372036854775806  # NetCDF's own, which no float64 holds
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["cube"], file["wavelength"] = wide, NM
        file["cube"].attrs["_FillValue"] = np.int64(-9223372036854775806)
    assert (
        converted(tmp_path / "b.h5", Descriptor(container="hdf5", axes="cyx")).attributes["n_invalid_px"] == HOLE.sum()
    )
    assert open_raw(*hdf5(tmp_path, Scale_Factor=0.0001)).scale == 0.0001  # meant to multiply


@pytest.mark.parametrize(
    ("text", "expected"), [("None", ()), ("NA", ()), ("-9999 ; fill", (-9999.0,)), ("-1.5e3", (-1500.0,))]
)
def test_words_for_no_ignore_value(tmp_path, text, expected):
    path, descriptor = envi(tmp_path)
    path.write_text(path.read_text().replace(f"data ignore value = {IGNORED}", f"data ignore value = {text}"))
    assert open_raw(path, descriptor).stored.ignore_values == expected


def test_lists_on_the_next_line_and_units_in_brackets(tmp_path):
    path, descriptor = envi(tmp_path, extra=f"bbl =\n {{{', '.join(map(str, BBL))}}}\n")
    path.write_text(path.read_text().replace("= Nanometers", "= Nanometers (nm)"))
    raw = open_raw(path, descriptor)
    assert raw.bad_bands == (2, 5)
    assert raw.wavelengths_nm == tuple(NM[k] for k in KEPT)
    with pytest.raises(RawFileError, match="gains are all 0"):
        open_raw(*envi(tmp_path, extra=f"data gain values = {{{', '.join('0' * N)}}}\n"))
