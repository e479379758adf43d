"""Which files belong to an ENVI image, and how large they may be."""

import numpy as np
import pytest

from hvlabel.descriptors import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers import open_raw

ENVI = Descriptor(container="envi")


def cube(n_bands=6, seed=0):
    return np.random.default_rng(seed).integers(1, 4000, (n_bands, 5, 7)).astype("<u2")


def header(path, n_bands=6, lines=5, extra=""):
    centres = ", ".join(str(500 + 10 * k) for k in range(n_bands))
    path.write_text(
        f"ENVI\nsamples = 7\nlines = {lines}\nbands = {n_bands}\ndata type = 12\ninterleave = bsq\nbyte order = 0\n"
        f"wavelength = {{{centres}}}\n{extra}"
    )
    return path


def data(path, values):
    values.tofile(path)
    return path


def test_its_own_header_goes_before_one_of_the_same_stem(tmp_path):
    own, other = cube(6), cube(4, 1)
    data(tmp_path / "s.img", own)
    header(tmp_path / "s.img.hdr", 6)
    header(tmp_path / "s.hdr", 4)
    data(tmp_path / "s.raw", other)
    np.testing.assert_array_equal(open_raw(tmp_path / "s.img", ENVI).read(), own)
    np.testing.assert_array_equal(open_raw(tmp_path / "s.img.hdr", ENVI).read(), own)
    np.testing.assert_array_equal(open_raw(tmp_path / "s.hdr", ENVI).read(), other)  # s.img has a header of its own
    np.testing.assert_array_equal(open_raw(tmp_path / "s.raw", ENVI).read(), other)


def test_two_data_files_of_fitting_size_are_refused_by_name(tmp_path):
    header(tmp_path / "s.hdr")
    data(tmp_path / "s.raw", cube())
    data(tmp_path / "s.dat", cube(seed=1))
    with pytest.raises(RawFileError) as refused:
        open_raw(tmp_path / "s.hdr", ENVI)
    assert "s.raw" in str(refused.value)
    assert "s.dat" in str(refused.value)
    np.testing.assert_array_equal(open_raw(tmp_path / "s.raw", ENVI).read(), cube())  # named, so certain


def test_the_data_file_of_fitting_size_is_taken_and_none_is_blamed_alone(tmp_path):
    header(tmp_path / "s.hdr")
    data(tmp_path / "s.raw", cube())
    (tmp_path / "s.dat").write_bytes(b"of another program")
    np.testing.assert_array_equal(open_raw(tmp_path / "s.hdr", ENVI).read(), cube())
    (tmp_path / "s.raw").write_bytes((tmp_path / "s.raw").read_bytes()[:-9])
    with pytest.raises(RawFileError) as refused:
        open_raw(tmp_path / "s.hdr", ENVI)
    for word in ("s.raw (411 bytes)", "s.dat (18 bytes)", "420"):
        assert word in str(refused.value)


@pytest.mark.parametrize(
    "suffix", [".pix", ".cube", ".ref", ".rfl", ".L1R", ".sli", "", ".PIX", ".something", ".bin", ".IMG"]
)
def test_any_single_file_of_fitting_size_is_the_data(tmp_path, suffix):
    header(tmp_path / "s.hdr")
    data(tmp_path / f"s{suffix}", cube())
    (tmp_path / "s.txt").write_text("notes")
    raw = open_raw(tmp_path / "s.hdr", ENVI)
    assert raw.files == (tmp_path / "s.hdr", tmp_path / f"s{suffix}")
    np.testing.assert_array_equal(raw.read(), cube())


def test_names_with_dots_and_capitals(tmp_path):
    header(tmp_path / "s.v1.hdr")
    data(tmp_path / "s.v1", cube())
    np.testing.assert_array_equal(open_raw(tmp_path / "s.v1.hdr", ENVI).read(), cube())
    np.testing.assert_array_equal(open_raw(tmp_path / "s.v1", ENVI).read(), cube())
    header(tmp_path / "B.HDR")
    data(tmp_path / "B.RAW", cube(seed=2))
    np.testing.assert_array_equal(open_raw(tmp_path / "B.HDR", ENVI).read(), cube(seed=2))
    with pytest.raises(RawFileError, match="no header"):
        open_raw(data(tmp_path / "alone.raw", cube()), ENVI)
    with pytest.raises(RawFileError, match="no data file beside the header"):
        open_raw(header(tmp_path / "only.hdr"), ENVI)


@pytest.mark.parametrize("named", ["s.hdr", "s.raw"])
def test_more_data_than_the_header_says_is_refused_with_the_likely_cause(tmp_path, named):
    values = np.concatenate([cube(), cube()], axis=1)[:, :8]  # eight lines
    values.tofile(tmp_path / "s.raw")
    header(tmp_path / "s.hdr", lines=6)
    with pytest.raises(RawFileError) as refused:
        open_raw(tmp_path / named, ENVI)
    for word in ("672", "504", "lines = 8"):
        assert word in str(refused.value)
    (tmp_path / "s.raw").write_bytes(bytes(501) + cube().tobytes())
    header(tmp_path / "s.hdr")
    with pytest.raises(RawFileError, match="header offset = 501"):
        open_raw(tmp_path / named, ENVI)
    header(tmp_path / "s.hdr", extra="header offset = 501\n")
    np.testing.assert_array_equal(open_raw(tmp_path / named, ENVI).read(), cube())


def test_a_second_array_in_one_npy_file_is_noticed(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.save(file, cube())
        np.save(file, cube())
    with pytest.raises(RawFileError, match="several arrays"):
        open_raw(
            tmp_path / "a.npy", Descriptor(container="npy", axes="cyx", wavelengths_nm=[500, 510, 520, 530, 540, 550])
        )


def test_a_second_header_of_one_data_file_says_whose_it_is(tmp_path):
    data(tmp_path / "k.img", cube())
    header(tmp_path / "k.img.hdr")
    header(tmp_path / "k.hdr")
    with pytest.raises(RawFileError, match=r"k\.img belongs to k\.img\.hdr"):
        open_raw(tmp_path / "k.hdr", ENVI)
