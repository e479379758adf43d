"""Band centres are believed by one rule, whatever the container."""

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
from pydantic import ValidationError

from hvlabel.config.tree import parse_config
from hvlabel.descriptors import Descriptor
from hvlabel.errors import ConfigError, RawFileError
from hvlabel.readers import open_raw
from hvlabel.wavelengths import Centres, centres_nm

NM = (450.0, 540.0, 630.0, 720.0, 810.0, 900.0)
CUBE = np.random.default_rng(0).integers(1, 4000, (6, 9, 13)).astype("uint16")


@pytest.mark.parametrize(
    ("unit", "per_nm"),
    [
        ("Nanometers", 1), ("nm", 1), ("Nanometres", 1), ("NANOMETER", 1), (" nanometers ", 1), ("[nm]", 1),
        ("Micrometers", 1e-3), ("um", 1e-3), ("µm", 1e-3), ("μm", 1e-3), ("\ufffdm", 1e-3), ("microns", 1e-3),
        ("micrometres", 1e-3), ("Angstroms", 10), ("Å", 10), ("m", 1e-9), ("metres", 1e-9), ("millimeters", 1e-6),
        ("Unknown", 1), ("", 1), (None, 1), ("Unknown", 1e-3), (None, 1e-3),
    ],
)  # fmt: skip
def test_every_spelling_of_a_unit(unit, per_nm):
    np.testing.assert_allclose(centres_nm([nm * per_nm for nm in NM], unit), NM)


@pytest.mark.parametrize(("unit", "constant"), [("cm-1", 1e7), ("Wavenumber", 1e7), ("GHz", 299_792_458.0)])
def test_units_that_fall_as_wavelength_rises(unit, constant):
    np.testing.assert_allclose(centres_nm([constant / nm for nm in NM], unit), NM)


@pytest.mark.parametrize(
    ("values", "unit", "named"),
    [
        ([0.45, 0.6, 0.9], "Nanometers", ["'Nanometers'", "micrometres"]),
        ([450, 600, 900], "Micrometers", ["'Micrometers'", "nanometres"]),
        ([450, 600, 900], "furlong", ["'furlong'"]),
        ([4500, 6000, 90000], "nm", ["90000", "ångström"]),
        ([1, 2, 3, 4, 5, 6], None, ["numbers of the bands"]),
        ([1, 2, 3, 4, 5, 6], "Micrometers", ["numbers of the bands"]),
        ([1, 2, 3, 4, 5, 6], "Nanometers", ["numbers of the bands"]),
        ([6, 5, 4, 3, 2, 1], "um", ["numbers of the bands"]),
        (list(range(300)), None, ["numbers of the bands"]),
        ([500] * 6, "nm", ["all 6", "500"]),
        ([500, -1, 700], None, ["positive"]),
        ([500, float("nan"), 700], None, ["positive"]),
        ([50, 60, 70], None, ["50, 60, 70", "without a unit"]),
        ([], None, ["no band centres"]),
    ],
)
def test_what_cannot_be_believed(values, unit, named):
    with pytest.raises(ValueError) as refused:
        centres_nm(values, unit)
    for word in named:
        assert word in str(refused.value)


def test_a_few_equal_centres_and_one_band_are_believed():
    assert centres_nm([500, 500, 600], "nm") == (500, 500, 600)
    assert centres_nm([0.65], None) == (650,)
    assert Centres((1.0, 500.0, 600.0), "nm", "x").in_nm([1, 2]) == (500, 600)


def envi(path, wavelengths, unit):
    CUBE.tofile(path.with_suffix(".raw"))
    values = ", ".join(map(str, wavelengths))
    path.write_text(
        f"ENVI\nsamples = 13\nlines = 9\nbands = 6\ndata type = 12\ninterleave = bsq\nbyte order = 0\n"
        f"wavelength units = {unit}\nwavelength = {{{values}}}\n"
    )
    return path, Descriptor(container="envi")


def matlab(path, wavelengths, unit):
    scipy.io.savemat(path.with_suffix(".mat"), {"cube": CUBE.transpose(1, 2, 0), "wavelength": np.array(wavelengths)})
    return path.with_suffix(".mat"), Descriptor(container="matlab", wavelength_variable="wavelength")


def hdf5(path, wavelengths, unit):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["cube"] = CUBE
        file["wavelength"] = np.array(wavelengths)
        if unit:
            file["wavelength"].attrs["units"] = unit
    return path.with_suffix(".h5"), Descriptor(container="hdf5", axes="cyx", wavelength_variable="wavelength")


def npz(path, wavelengths, unit):
    np.savez(path.with_suffix(".npz"), cube=CUBE, wavelength=np.array(wavelengths))
    return path.with_suffix(".npz"), Descriptor(container="npy", axes="cyx", wavelength_variable="wavelength")


def tiff(path, wavelengths, unit):
    items = "".join(f'<Item name="wavelength" sample="{k}">{w}</Item>' for k, w in enumerate(wavelengths))
    items += f'<Item name="wavelength_units">{unit}</Item>' if unit else ""
    xml = f"<GDALMetadata>{items}</GDALMetadata>"
    tifffile.imwrite(
        path.with_suffix(".tif"), CUBE, photometric="minisblack", planarconfig="separate",
        extratags=[(42112, 2, 0, xml, True)], metadata=None,
    )  # fmt: skip
    return path.with_suffix(".tif"), Descriptor(container="tiff", axes="cyx")


CONTAINERS = [envi, matlab, hdf5, npz, tiff]


@pytest.mark.parametrize("write", CONTAINERS)
def test_sound_centres_are_read_from_every_container(tmp_path, write):
    raw = open_raw(*write(tmp_path / "a.hdr", [nm / 1000 for nm in NM], ""))
    np.testing.assert_allclose(raw.wavelengths_nm, NM)
    assert raw.wavelengths_from == "file"
    np.testing.assert_array_equal(raw.read(), CUBE)
    falling = open_raw(*write(tmp_path / "a.hdr", NM[::-1], ""))
    np.testing.assert_allclose(falling.wavelengths_nm, NM[::-1])


@pytest.mark.parametrize("write", CONTAINERS)
@pytest.mark.parametrize(
    ("wavelengths", "named"), [([1, 2, 3, 4, 5, 6], "numbers of the bands"), ([500] * 6, "500"), ([7, 8, 9, 70, 80, 90], "outside")]
)  # fmt: skip
def test_unsound_centres_are_refused_by_every_container(tmp_path, write, wavelengths, named):
    path, descriptor = write(tmp_path / "a.hdr", wavelengths, "")
    with pytest.raises(RawFileError, match=named) as refused:
        open_raw(path, descriptor)
    assert path.stem in str(refused.value)
    given = descriptor.model_copy(update={"wavelengths_nm": list(NM)})  # the descriptor knows better
    assert open_raw(path, given).wavelengths_nm == NM


@pytest.mark.parametrize("write", [envi, hdf5, tiff])
def test_a_unit_in_the_file_counts_and_a_slip_is_named(tmp_path, write):
    np.testing.assert_allclose(
        open_raw(*write(tmp_path / "a.hdr", [nm * 10 for nm in NM], "Angstrom")).wavelengths_nm, NM
    )
    with pytest.raises(RawFileError, match="micrometres"):
        open_raw(*write(tmp_path / "a.hdr", [nm / 1000 for nm in NM], "Nanometers"))
    with pytest.raises(RawFileError, match="'parsec'"):
        open_raw(*write(tmp_path / "a.hdr", NM, "parsec"))


@pytest.mark.parametrize(
    ("given", "named"),
    [([0.45, 0.6, 0.9], "micrometres"), ([1, 2, 3], "numbers of the bands"), ({"start_nm": 0.4, "stop_nm": 1.0, "count": 5}, "micrometres")],
)  # fmt: skip
def test_the_configuration_is_judged_by_the_same_rule(given, named):
    with pytest.raises(ValidationError, match=named):
        Descriptor(container="npy", wavelengths_nm=given)
    tree = {"datasets": {"a": {"root": ".", "descriptor": "icvl", "wavelengths_nm": given}}}
    with pytest.raises(ConfigError, match=named):
        parse_config(tree, "mine.yaml")


def test_vectors_in_attributes_and_coordinates_are_found_without_being_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/cube"] = CUBE
        file["group/cube"].attrs["wavelengths"] = np.array(NM) / 1000
        file["group/cube"].attrs["wavelength_units"] = "micrometers"
    plain = Descriptor(container="hdf5", axes="cyx")
    np.testing.assert_allclose(open_raw(tmp_path / "a.h5", plain).wavelengths_nm, NM)
    with h5py.File(tmp_path / "b.h5", "w") as file:  # as xarray writes a coordinate
        file["reflectance"] = CUBE
        file["wavelength"] = np.array(NM)
        file["wavelength"].attrs["units"] = "nm"
        file["wavelength"].make_scale("wavelength")
        file["reflectance"].dims[0].attach_scale(file["wavelength"])
    np.testing.assert_allclose(open_raw(tmp_path / "b.h5", plain).wavelengths_nm, NM)
    with h5py.File(tmp_path / "b.h5", "a") as file:
        file["other_wavelength"] = np.array(NM) + 1
    with pytest.raises(RawFileError, match=r"wavelength and other_wavelength|other_wavelength and wavelength"):
        open_raw(tmp_path / "b.h5", plain)


def test_a_set_point_list_is_no_list_of_centres(tmp_path):
    path, descriptor = envi(tmp_path / "a.hdr", [1, 2, 3, 4, 5, 6], "Index")
    with pytest.raises(RawFileError, match="names no wavelengths"):
        open_raw(path, descriptor)
