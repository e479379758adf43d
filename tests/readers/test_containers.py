"""Raw files of every container: the same cube with its wavelengths, and what is refused in one sentence."""

import zipfile

import numpy as np
import pytest
import raw_files
from six_bands import CUBE, NM, OF_ENVI, WRITERS, bil, envi, hdf5, mat5, mat73, npy, npz

from hvlabel.descriptors import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers import open_raw


@pytest.mark.parametrize("write", WRITERS)
def test_every_container_gives_the_same_cube(tmp_path, write):
    path, descriptor = write(tmp_path)
    raw = open_raw(path, descriptor)
    np.testing.assert_array_equal(raw.read()[:6], CUBE)
    assert raw.wavelengths_nm[:6] == tuple(NM)
    assert raw.files[0] == path


# ------------------------------------------------------------------------------------ ENVI as found in the wild


def test_a_trailing_comma_and_micrometres(tmp_path):
    header = envi(tmp_path / "a.hdr", wavelength="0.5, 0.51, 0.52,\n 0.53, 0.54, 0.55,", byte_order=None)
    np.testing.assert_allclose(open_raw(header, OF_ENVI).wavelengths_nm, NM)
    in_um = "0.5,0.51,0.52,0.53,0.54,0.55"
    singular = envi(tmp_path / "b.hdr", wavelength=in_um, wavelength_units="Micrometer")
    np.testing.assert_allclose(open_raw(singular, OF_ENVI).wavelengths_nm, NM)


@pytest.fixture
def big_endian(tmp_path):
    """A header of the other byte order, with a scale."""
    return envi(tmp_path / "b.hdr", ">", reflectance_scale_factor=10000, header_offset=0)


def test_byte_order_and_scale_of_the_header(big_endian):
    raw = open_raw(big_endian, OF_ENVI)
    np.testing.assert_array_equal(raw.read(), CUBE)
    assert (raw.scale, raw.unit) == (1e-4, "reflectance")
    scaled = open_raw(big_endian, Descriptor(container="envi", scale=0.5))
    assert (scaled.scale, scaled.unit) == (0.5, "reflectance")
    by_descriptor = open_raw(big_endian, Descriptor(container="envi", scale=0.5, unit="radiance"))
    assert (by_descriptor.scale, by_descriptor.unit) == (0.5, "radiance")


def test_the_data_file_is_the_one_that_is_named_or_that_fits(big_endian):
    files = open_raw(big_endian, OF_ENVI).files
    data = big_endian.with_suffix(".raw")
    assert open_raw(data, OF_ENVI).files == files
    big_endian.with_suffix(".dat").write_bytes(b"of another program")
    assert open_raw(data, OF_ENVI).files == files  # the named file, not a sibling
    assert open_raw(big_endian, OF_ENVI).files == files  # the .dat is too small for the header
    big_endian.with_suffix(".dat").write_bytes(bytes(CUBE.nbytes + 9))  # larger, so another image's
    assert open_raw(big_endian, OF_ENVI).files == files


def test_what_the_descriptor_knows_is_not_asked_for(tmp_path):
    text = envi(tmp_path / "c.hdr", wavelength="Band 1, Band 2", reflectance_scale_factor=0)
    known = open_raw(text, Descriptor(container="envi", wavelengths_nm=NM, scale=0.5))
    assert (list(known.wavelengths_nm), known.scale, known.unit) == (NM, 0.5, "counts")


def test_foreign_members_of_an_archive(tmp_path):
    path, descriptor = npz(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "hello")
    np.testing.assert_array_equal(open_raw(path, descriptor).read(), CUBE)


# ------------------------------------------------------------------------------------------------------ refusals


def header(old, new):
    """A sound ENVI pair, one thing of whose header is another."""

    def write(folder):
        path, descriptor = bil(folder)
        path.write_text(path.read_text().replace(old, new))
        return path, descriptor

    return write


def with_field(field):
    """A sound ENVI pair with one more line in its header."""
    return header("samples", f"{field}\nsamples")


def read_as(write, **fields):
    """A sound file and another descriptor."""
    return lambda folder: (write(folder)[0], Descriptor(**fields))


def two_cubes(folder):
    path = raw_files.mat73(folder / "b.mat", cube=CUBE, other=CUBE)
    return path, Descriptor(container="matlab", wavelengths_nm=NM)


def gone(folder):
    return folder / "gone.npy", Descriptor(container="npy", wavelengths_nm=NM)


MATLAB = {"container": "matlab", "wavelengths_nm": NM}
REFUSALS = {
    "gone.npy: no such file": gone,
    "5 wavelengths for 6 bands": read_as(npy, container="npy", wavelengths_nm=NM[:5]),
    "names no wavelengths; give the 6 band centres": read_as(npy, container="npy"),
    r"no variable 'data'; it holds cube 9x13x6": read_as(mat5, variable="data", **MATLAB),
    "2 three-dimensional numeric arrays": two_cubes,
    "expected three axes": read_as(mat73, variable="nm", **MATLAB),
    "no numeric vector 'lambda'": read_as(mat5, container="matlab", wavelength_variable="lambda"),
    "first line is not 'ENVI'": header("ENVI", "NOVI"),
    "interleave is 'xyz', expected bsq, bil or bip": header("bil", "xyz"),
    "data type 6 is not a real number type": header("data type = 12", "data type = 6"),
    "promises": header("lines = 9", "lines = 1000000000000"),
    "lines is 'many', expected a whole number": header("lines = 9", "lines = many"),
    "negative header offset": with_field("header offset = -8"),
    "compressed data file": with_field("file compression = 1"),
    "scale factor is 0, expected a positive": with_field("reflectance scale factor = 0"),
    "neither MATLAB v5 nor v7.3": read_as(npy, **MATLAB),
    "no numeric vector 'group'": read_as(hdf5, container="hdf5", axes="cxy", wavelength_variable="group"),
    "wavelength holds 'red', expected a number": header("500.0", "red"),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_refusals(tmp_path, message):
    path, descriptor = REFUSALS[message](tmp_path)
    with pytest.raises(RawFileError, match=message):
        open_raw(path, descriptor)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((4, 5)), "expected three axes"),
        (np.array([[["a"]]]), "expected numbers"),
        (np.zeros((2, 2, 2), complex), "expected numbers"),
        (np.array([[[None]]], object), "expected numbers"),
        (np.ones((2, 2, 2), np.longdouble), "numbers of at most 64 bit"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, content, message):
    np.save(tmp_path / "a.npy", content, allow_pickle=True)
    with pytest.raises(RawFileError, match=message):
        open_raw(tmp_path / "a.npy", Descriptor(container="npy", wavelengths_nm=NM))


def test_a_header_without_its_data_file(tmp_path):
    path, descriptor = bil(tmp_path)
    path.with_suffix(".raw").unlink()
    with pytest.raises(RawFileError, match=r"no data file beside the header; expected a\.dat"):
        open_raw(path, descriptor)
