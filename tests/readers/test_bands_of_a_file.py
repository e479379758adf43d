"""What files say of their bands: which are bad, where they lie, how wide they are."""

import h5py
import numpy as np
import pytest
import raw_files
from described_scene import (
    BBL,
    KEPT,
    NM,
    OF_HDF5,
    SCENE,
    N,
    converted,
    envi,
    hdf5,
    matlab,
    tiff,
)
from raw_files import gdal_items

from hvlabel.descriptors import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers import open_raw

WIDTHS = [10.0 + k for k in range(N)]


def bbl_envi(folder):
    return envi(folder, bbl=BBL)


def bbl_hdf5(folder):
    return hdf5(folder, more={"bbl": BBL})


def bbl_attribute(folder):
    return hdf5(folder, bbl=BBL)


def bbl_tiff(folder):
    return tiff(folder, items=gdal_items("bbl", BBL))


def bbl_matlab(folder):
    return matlab(folder, wavelength=np.array(NM), bbl=np.array(BBL, bool))


@pytest.mark.parametrize("write", [bbl_envi, bbl_hdf5, bbl_attribute, bbl_tiff, bbl_matlab])
def test_bad_bands_are_left_out(tmp_path, write):
    path, descriptor = write(tmp_path)

    def opened(**changes):
        return open_raw(path, descriptor.model_copy(update=changes))

    raw = opened()
    assert raw.wavelengths_nm == tuple(NM[k] for k in KEPT)
    np.testing.assert_array_equal(raw.read(), SCENE[KEPT])
    assert raw.bad_bands == (2, 5)
    np.testing.assert_array_equal(opened(bad_bands="keep").read(), SCENE)
    for given in (NM, [NM[k] for k in KEPT]):  # centres of all bands, or of the good ones
        shifted = opened(wavelengths_nm=[nm + 1 for nm in given])
        assert shifted.wavelengths_nm == tuple(NM[k] + 1 for k in KEPT)
    np.testing.assert_array_equal(opened(drop_bands=(0, 2)).read(), SCENE[KEPT[1:]])


def test_a_bad_band_list_that_makes_no_sense_is_a_sentence(tmp_path):
    with pytest.raises(RawFileError, match="bbl holds 3 values for 8 bands"):
        open_raw(*envi(tmp_path, bbl=[1, 0, 1]))
    with pytest.raises(RawFileError, match="leaves no band"):
        open_raw(*envi(tmp_path, bbl=[0] * N))


def test_lists_on_the_next_line_and_units_in_brackets(tmp_path):
    path, descriptor = envi(tmp_path, bbl=BBL, wavelength_units="Nanometers (nm)")
    path.write_text(path.read_text().replace("bbl = ", "bbl =\n "))
    raw = open_raw(path, descriptor)
    assert raw.bad_bands == (2, 5)
    assert raw.wavelengths_nm == tuple(NM[k] for k in KEPT)


def test_bad_bands_as_a_vector_of_booleans(tmp_path):
    assert open_raw(*hdf5(tmp_path, bbl=np.array(BBL, bool))).bad_bands == (2, 5)


# -------------------------------------------------------------------------------------------------------- widths


def test_band_widths_are_kept(tmp_path):
    assert converted(*envi(tmp_path, fwhm=WIDTHS, bbl=BBL)).attributes["fwhm_nm"] == [WIDTHS[k] for k in KEPT]
    in_um = {"cube": SCENE, "wavelength": np.array(NM) / 1000, "fwhm": np.array(WIDTHS) / 1000}
    path = raw_files.hdf5(tmp_path / "b.h5", in_um)
    np.testing.assert_allclose(open_raw(path, OF_HDF5).fwhm_nm, WIDTHS)
    assert open_raw(*tiff(tmp_path, items=gdal_items("fwhm", WIDTHS))).fwhm_nm == tuple(WIDTHS)


# ------------------------------------------------------------------------------------------------------- centres


def test_band_numbers_are_known_by_the_whole_list(tmp_path):
    numbers = list(range(1, N + 1))
    path, descriptor = envi(tmp_path, wavelength=numbers, wavelength_units=None, bbl=[1, 1, 1, 0, 1, 1, 1, 1])
    for form in (descriptor, descriptor.model_copy(update={"drop_bands": (0,)})):
        with pytest.raises(RawFileError, match="numbers of the bands"):
            open_raw(path, form)


def test_zeros_for_the_centres_of_dropped_bands_do_no_harm(tmp_path):
    path, descriptor = envi(tmp_path, wavelength=[0.0, *NM[1:]])
    kept = open_raw(path, descriptor.model_copy(update={"drop_bands": (0,)}))
    assert kept.wavelengths_nm == tuple(NM[1:])


def test_names_of_vectors_are_told_apart(tmp_path):
    def centres(**vectors):
        return open_raw(*matlab(tmp_path, **vectors)).wavelengths_nm

    falling = np.linspace(950, 1800, N)
    np.testing.assert_allclose(centres(wavenumber=falling), 1e7 / falling)
    widths, alignment = np.linspace(5.1, 9, N), np.linspace(401, 900, N)
    assert centres(wavelength=np.array(NM), wavelength_fwhm=widths, alignment=alignment) == tuple(NM)
    with pytest.raises(RawFileError, match="names no wavelengths"):
        centres(waveFWHM=widths)
    exact = np.array(NM) + 0.123
    twice = centres(wavelength=np.array(NM, np.float32) + 0.123, wavelength_nm=exact)
    np.testing.assert_allclose(twice, exact, rtol=1e-6)
    mosaic = np.random.default_rng(0).permutation(NM)
    assert centres(wavelength=mosaic) == tuple(mosaic)
    with pytest.raises(RawFileError, match="without a unit"):  # said in its own words, not as if there were none
        centres(wavelength=np.linspace(40, 90, N))


# ------------------------------------------------------------------------------- GDAL's items, and groups of HDF5


def test_gdal_items_carried_over_from_an_envi_header(tmp_path):
    items = "".join(f'<Item name="Band_{k + 1}">{nm / 1000} Micrometers</Item>' for k, nm in enumerate(NM))
    path = raw_files.tiff(tmp_path / "a.tif", SCENE.transpose(1, 2, 0), items, planarconfig="contig")
    raw = open_raw(path, Descriptor(container="tiff"))
    np.testing.assert_allclose(raw.wavelengths_nm, NM)
    np.testing.assert_array_equal(raw.read(), SCENE)


def test_gdal_items_of_some_bands_and_lists_for_all(tmp_path):
    def opened(items):
        return open_raw(*tiff(tmp_path, items=items))

    some = gdal_items("OFFSET", [1, 2, 3], role="offset")
    np.testing.assert_array_equal(opened(some).offset.ravel(), [1, 2, 3, 0, 0, 0, 0, 0])
    assert opened('<Item name="bbl" sample="2">0</Item>').bad_bands == (2,)
    whole = ", ".join(map(str, BBL))
    assert opened(f'<Item name="bbl" domain="ENVI">{{{whole}}}</Item>').bad_bands == (2, 5)
    um = gdal_items("FWHM_UM", ["0.010"] * N, domain="IMAGERY")
    in_nm = '<Item name="wavelength_units">Nanometers</Item>'
    np.testing.assert_allclose(opened(um + in_nm).fwhm_nm, 10)
    assert opened(gdal_items("wavelength", [f"{nm:g} nm" for nm in NM])).wavelengths_nm == tuple(NM)


def good_but(bad):
    """A bad bands list with one bad band."""
    return [int(k != bad) for k in range(N)]


def test_the_vectors_of_the_cubes_own_group_count(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for group, bad, width_nm in (("swir", 2, 10.0), ("vnir", 5, 5.0)):
            file[f"{group}/cube"] = SCENE
            file[f"{group}/wavelength"] = NM
            file[f"{group}/bbl"] = good_but(bad)
            file[f"{group}/fwhm"] = np.full(N, width_nm / 1000)
            file[f"{group}/fwhm"].attrs["units"] = "um"
    raw = open_raw(tmp_path / "a.h5", OF_HDF5.model_copy(update={"variable": "vnir/cube"}))
    assert raw.bad_bands == (5,)
    np.testing.assert_allclose(raw.fwhm_nm, 5)


def test_vectors_of_other_groups_that_differ_are_refused(tmp_path):
    content = {"cube": SCENE, "one/bbl": good_but(2), "two/bbl": good_but(5)}
    path = raw_files.hdf5(tmp_path / "b.h5", content)
    with pytest.raises(RawFileError, match="one/bbl and two/bbl differ"):
        open_raw(path, OF_HDF5.model_copy(update={"wavelengths_nm": NM}))
