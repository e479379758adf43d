"""Raw files as cubes: what is read, and what is refused in one sentence."""

import zipfile
from pathlib import Path

import cv2
import h5py
import numpy as np
import PIL.Image
import pytest
import scipy.io
import zarr

from hvlabel.config import CubeSettings
from hvlabel.cube import open_cube
from hvlabel.descriptors import Descriptor, WavelengthRange
from hvlabel.errors import CubeError, RawFileError
from hvlabel.readers import first_line, fit, open_raw, raw_sha256, read_rgb
from hvlabel.readers.pictures import read_grey
from hvlabel.stages.convert import convert_file

CUBE = np.random.default_rng(0).integers(0, 4000, (6, 9, 13)).astype("uint16")  # (C, H, W), no two sizes equal
NM = [500.0, 510.0, 520.0, 530.0, 540.0, 550.0]


def envi(path, values=CUBE, interleave="bil", order="<", extra="", wavelengths=", ".join(map(str, NM))):
    axes = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}[interleave]
    values.transpose(axes).astype(values.dtype.newbyteorder(order)).tofile(path.with_suffix(".raw"))
    n, h, w = values.shape
    path.write_text(
        f"ENVI\nsamples = {w}\nlines = {h}\nbands = {n}\ndata type = 12\ninterleave = {interleave}\n"
        f"wavelength = {{\n{wavelengths}}}\n{extra}"
    )
    return path


def mat73(path, values=CUBE, **more):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["cube"] = values.transpose(1, 2, 0).transpose(2, 1, 0)  # MATLAB (y, x, c), stored reversed
        for name, value in more.items():
            file[name] = value
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    return path


def write(kind, folder):
    """A raw file of one kind, its descriptor."""
    yxc = CUBE.transpose(1, 2, 0)
    match kind:
        case "npy":
            np.save(folder / "a.npy", yxc)
            return folder / "a.npy", Descriptor(container="npy", wavelengths_nm=NM)
        case "npy cyx":
            np.save(folder / "a.npy", CUBE)
            return folder / "a.npy", Descriptor(container="npy", axes="cyx", wavelengths_nm=NM)
        case "npz":
            np.savez(folder / "a.npz", cube=yxc, nm=np.array(NM), name=np.array("x"))
            return folder / "a.npz", Descriptor(container="npy", wavelength_variable="nm")
        case "mat v5":
            scipy.io.savemat(folder / "a.mat", {"cube": yxc, "nm": np.array(NM)[:, None], "note": "text"})
            return folder / "a.mat", Descriptor(container="matlab", wavelength_variable="nm")
        case "mat v7.3":
            return mat73(folder / "a.mat", nm=np.array(NM)[None]), Descriptor(
                container="matlab", wavelength_variable="nm"
            )
        case "hdf5":
            with h5py.File(folder / "a.h5", "w") as file:
                file["group/cube"] = CUBE.transpose(0, 2, 1)
            descriptor = Descriptor(
                container="hdf5",
                variable="group/cube",
                axes="cxy",
                wavelengths_nm=WavelengthRange(start_nm=500, stop_nm=550, count=6),
            )
            return folder / "a.h5", descriptor
        case "mosaic":
            six = np.concatenate([CUBE, CUBE[:3]])  # nine bands in a 3x3 pattern
            frame = six.reshape(3, 3, 9, 13).transpose(2, 0, 3, 1).reshape(27, 39)
            cv2.imwrite(str(folder / "a.png"), np.pad(frame, ((0, 2), (0, 1))))
            return folder / "a.png", Descriptor(
                container="mosaic_png", mosaic_px=3, wavelengths_nm=[*NM, 560, 570, 580]
            )
        case _:
            return envi(folder / "a.hdr", interleave=kind), Descriptor(container="envi")


KINDS = ["npy", "npy cyx", "npz", "mat v5", "mat v7.3", "hdf5", "mosaic", "bsq", "bil", "bip"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_gives_the_same_cube(tmp_path, kind):
    path, descriptor = write(kind, tmp_path)
    raw = open_raw(path, descriptor)
    np.testing.assert_array_equal(raw.read()[:6], CUBE)
    assert raw.wavelengths_nm[:6] == tuple(NM)
    assert raw.files[0] == path
    assert len(raw_sha256(raw.files)) == 64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.9])
def test_a_truncated_file_is_one_sentence(tmp_path, kind, keep):
    path, descriptor = write(kind, tmp_path)
    victim = path.with_suffix(".raw") if kind in ("bsq", "bil", "bip") else path
    content = victim.read_bytes()
    victim.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    outcome: object
    try:
        outcome = open_raw(path, descriptor).read()[:6]
    except RawFileError as error:
        outcome = str(error)
    if isinstance(outcome, str):
        assert "\n" not in outcome
        assert victim.name in outcome
    else:  # what was cut off was not needed to read the cube
        np.testing.assert_array_equal(outcome, CUBE)


def test_quarter_turns_bring_the_image_upright(tmp_path):
    path, _ = write("npy", tmp_path)
    raw = open_raw(path, Descriptor(container="npy", wavelengths_nm=NM, rot90=1))
    np.testing.assert_array_equal(raw.read(), np.rot90(CUBE, 1, axes=(1, 2)))


def test_envi_headers_as_found_in_the_wild(tmp_path):
    lenient = envi(
        tmp_path / "a.hdr", wavelengths="0.5, 0.51, 0.52,\n 0.53, 0.54, 0.55,"
    )  # trailing comma, micrometres, no byte order
    np.testing.assert_allclose(open_raw(lenient, Descriptor(container="envi")).wavelengths_nm, NM)
    big = envi(
        tmp_path / "b.hdr", order=">", extra="byte order = 1\nreflectance scale factor = 10000\nheader offset = 0\n"
    )
    raw = open_raw(big, Descriptor(container="envi"))
    np.testing.assert_array_equal(raw.read(), CUBE)
    assert (raw.scale, raw.unit) == (1e-4, "reflectance")
    by_data_file = open_raw(big.with_suffix(".raw"), Descriptor(container="envi"))
    assert by_data_file.files == raw.files
    big.with_suffix(".dat").write_bytes(b"of another program")
    assert (
        open_raw(big.with_suffix(".raw"), Descriptor(container="envi")).files == raw.files
    )  # the named file, not a sibling
    own = Descriptor(container="envi", scale=0.5, unit="radiance")
    assert (open_raw(big.with_suffix(".raw"), own).scale, open_raw(big.with_suffix(".raw"), own).unit) == (
        0.5,
        "radiance",
    )
    assert open_raw(big, Descriptor(container="envi")).files == raw.files  # the .dat is too small for the header
    text = envi(tmp_path / "c.hdr", wavelengths="Band 1, Band 2", extra="reflectance scale factor = 0\n")
    known = open_raw(text, Descriptor(container="envi", wavelengths_nm=NM, scale=0.5))  # what is known is not asked for
    assert (list(known.wavelengths_nm), known.scale, known.unit) == (NM, 0.5, "counts")
    assert open_raw(big, Descriptor(container="envi", scale=0.5)).unit == "reflectance"
    big.with_suffix(".dat").write_bytes(bytes(CUBE.nbytes + 9))  # larger, so another image's
    assert open_raw(big, Descriptor(container="envi")).files == raw.files


def replace(path, old, new):
    path.write_text(path.read_text().replace(old, new))
    return path


REFUSALS = [
    (lambda d: (d / "gone.npy", Descriptor(container="npy", wavelengths_nm=NM)), "gone.npy: no such file"),
    (lambda d: (write("npy", d)[0], Descriptor(container="npy", wavelengths_nm=NM[:5])), "5 wavelengths for 6 bands"),
    (lambda d: (write("npy", d)[0], Descriptor(container="npy")), "names no wavelengths; give the 6 band centres"),
    (lambda d: (write("mat v5", d)[0], Descriptor(container="matlab", variable="data", wavelengths_nm=NM)), r"no variable 'data'; it holds cube 9x13x6"),
    (lambda d: (mat73(d / "b.mat", other=CUBE), Descriptor(container="matlab", wavelengths_nm=NM)), "2 three-dimensional numeric arrays"),
    (lambda d: (write("mat v7.3", d)[0], Descriptor(container="matlab", variable="nm", wavelengths_nm=NM)), "expected three axes"),
    (lambda d: (write("mat v5", d)[0], Descriptor(container="matlab", wavelength_variable="lambda")), "no numeric vector 'lambda'"),
    (lambda d: (replace(write("bil", d)[0], "ENVI", "NOVI"), Descriptor(container="envi")), "first line is not 'ENVI'"),
    (lambda d: (replace(write("bil", d)[0], "bil", "xyz"), Descriptor(container="envi")), "interleave is 'xyz', expected bsq, bil or bip"),
    (lambda d: (replace(write("bil", d)[0], "data type = 12", "data type = 6"), Descriptor(container="envi")), "data type 6 is not a real number type"),
    (lambda d: (replace(write("bil", d)[0], "lines = 9", "lines = 1000000000000"), Descriptor(container="envi")), "promises"),
    (lambda d: (replace(write("bil", d)[0], "lines = 9", "lines = many"), Descriptor(container="envi")), "lines is 'many', expected a whole number"),
    (lambda d: (replace(write("bil", d)[0], "samples", "header offset = -8\nsamples"), Descriptor(container="envi")), "negative header offset"),
    (lambda d: (replace(write("bil", d)[0], "samples", "file compression = 1\nsamples"), Descriptor(container="envi")), "compressed data file"),
    (lambda d: (replace(write("bil", d)[0], "samples", "reflectance scale factor = 0\nsamples"), Descriptor(container="envi")), "scale factor is 0, expected a positive"),
    (lambda d: (write("npy", d)[0], Descriptor(container="matlab", wavelengths_nm=NM)), "neither MATLAB v5 nor v7.3"),
    (lambda d: (write("hdf5", d)[0], Descriptor(container="hdf5", axes="cxy", wavelength_variable="group")), "no numeric vector 'group'"),
    (lambda d: (replace(write("bil", d)[0], "500.0", "red"), Descriptor(container="envi")), "wavelength holds 'red', expected a number"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSALS, ids=[m for _, m in REFUSALS])
def test_refusals(tmp_path, make, message):
    path, descriptor = make(tmp_path)
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


def test_missing_siblings_and_companions(tmp_path):
    path, descriptor = write("bil", tmp_path)
    path.with_suffix(".raw").unlink()
    with pytest.raises(RawFileError, match=r"no data file beside the header; expected a\.dat"):
        open_raw(path, descriptor)
    colour = Descriptor(container="npy", wavelengths_nm=NM, rgb_companion="../rgb/{stem}.png")
    assert colour.companion_of(tmp_path / "a.npy") == tmp_path / "../rgb/a.png"
    with pytest.raises(RawFileError, match="RGB companion is missing or damaged"):
        read_rgb(tmp_path / "none.png")
    cv2.imwrite(str(tmp_path / "c.png"), np.full((8, 6, 3), (10, 20, 30), np.uint8))  # OpenCV writes blue first
    np.testing.assert_array_equal(fit(read_rgb(tmp_path / "c.png"), 4, 3), np.full((4, 3, 3), (30, 20, 10)))


def test_damaged_chunks_are_the_raw_files_fault(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", data=CUBE, chunks=(6, 9, 13), compression="gzip")
        offset = file["cube"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 20 : offset + 60] = bytes(40)
    path.write_bytes(bytes(content))
    descriptor = Descriptor(container="hdf5", axes="cyx", wavelengths_nm=NM)
    with pytest.raises(RawFileError, match=r"a\.h5: cannot be read to its end .*the file is damaged"):
        convert_file(path, descriptor, CubeSettings(), tmp_path / "a.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5"]


def test_a_cut_off_companion_is_refused_and_an_unused_one_not_missed(tmp_path):
    path, _ = write("npy", tmp_path)
    descriptor = Descriptor(container="npy", wavelengths_nm=NM, rgb_companion="{stem}.jpg")
    noise = np.random.default_rng(0).integers(0, 255, (90, 130, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.jpg"), noise)
    assert convert_file(path, descriptor, CubeSettings(), tmp_path / "a.zarr")["rgb_source"] == "companion"
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    with pytest.raises(RawFileError, match="companion is missing or damaged"):
        convert_file(path, descriptor, CubeSettings(), tmp_path / "a.zarr")
    (tmp_path / "a.jpg").unlink()
    assert convert_file(path, descriptor, CubeSettings(rgb="triplet"), tmp_path / "a.zarr")["rgb_source"] == "triplet"


def test_a_folder_that_is_no_cube_is_never_replaced(tmp_path):
    path, descriptor = write("npy", tmp_path)
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "precious.txt").write_text("x")
    for out in (tmp_path / "mine.zarr", tmp_path / "mine", tmp_path):
        with pytest.raises(CubeError, match="not the path of a cube"):
            convert_file(path, descriptor, CubeSettings(), out)
    assert (tmp_path / "mine.zarr" / "precious.txt").exists()


# ---------------------------------------------------------------------------------- what a review found


def test_palettes_and_deep_colours_keep_their_grey_values(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (30, 30)).astype(np.uint8)
    palette = PIL.Image.fromarray(grey).convert("P")
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "p.png"), grey)
    deep = np.random.default_rng(0).integers(0, 65_536, (20, 30)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "d.png"), np.dstack([deep] * 3))
    np.testing.assert_array_equal(read_grey(tmp_path / "d.png"), deep)
    cv2.imwrite(str(tmp_path / "c.png"), np.dstack([deep, deep, deep // 2]))
    with pytest.raises(RawFileError, match="a colour picture, expected a grey one"):
        read_grey(tmp_path / "c.png")


def test_companion_folders_above_the_data_set_are_left_alone():
    from hvlabel.descriptors import load_descriptor

    form = load_descriptor("x", "hsidrive20")
    inside = form.companion_of(Path("/data/test/HSI/images/test/n_MF_TC.npy"))
    assert inside == Path("/data/test/HSI/RGB/n_pseudocolor.png")
    assert form.companion_of(Path("/images/HSI/images/n_MF_TC.npy")) == Path("/images/HSI/RGB/n_pseudocolor.png")


@pytest.mark.parametrize("rot90", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["npy", "bsq", "mat v5", "hdf5"])
def test_the_first_line_is_that_of_the_upright_image(tmp_path, kind, rot90):
    path, descriptor = write(kind, tmp_path)
    raw = open_raw(
        path,
        descriptor.model_copy(
            update={"rot90": rot90, "drop_rows": (0, 8), "drop_bands": (0,), "wavelengths_nm": NM[1:]}
        ),
    )
    np.testing.assert_array_equal(first_line(raw), raw.read()[0, 0])


@pytest.mark.parametrize("rot90", [0, 1, 2, 3])
@pytest.mark.parametrize("chunks", [None, (2, 3, 4), (6, 9, 13), (1, 9, 2)])
@pytest.mark.parametrize("dropped", [(3, 50, 89), (*range(16, 48), 70)])
def test_strips_in_little_memory_are_the_cube(tmp_path, rot90, chunks, dropped):
    cube = np.random.default_rng(0).integers(0, 4000, (6, 90, 130)).astype(">u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("cube", data=cube, chunks=chunks, compression=chunks and "gzip", shuffle=bool(chunks))
    descriptor = Descriptor(container="hdf5", axes="cyx", wavelengths_nm=NM, rot90=rot90, drop_rows=dropped)
    raw = open_raw(tmp_path / "a.h5", descriptor)
    whole = np.rot90(np.delete(cube, dropped, axis=1), rot90, axes=(1, 2))
    seen = np.zeros(raw.shape, int)
    last: tuple[np.ndarray, np.ndarray] | None = None
    for strip in raw.strips(16, 200_000, tmp_path, threads=2):
        if last is not None:  # still whole while the next one is at hand
            np.testing.assert_array_equal(*last)
        stop = strip.start + strip.values.shape[strip.axis]
        box = (
            (slice(None), slice(strip.start, stop))
            if strip.axis == 1
            else (slice(None), slice(None), slice(strip.start, stop))
        )
        np.testing.assert_array_equal(strip.values, whole[box])
        last = strip.values, whole[box]
        assert strip.start % 16 == 0
        assert strip.values.nbytes <= 100_000
        seen[box] += 1
    assert (seen == 1).all()


def test_singular_units_odd_members_and_integer_pictures(tmp_path):
    header = envi(
        tmp_path / "a.hdr", extra="wavelength units = Micrometer\n", wavelengths="0.5,0.51,0.52,0.53,0.54,0.55"
    )
    np.testing.assert_allclose(open_raw(header, Descriptor(container="envi")).wavelengths_nm, NM)
    path, descriptor = write("npz", tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "hello")
    np.testing.assert_array_equal(open_raw(path, descriptor).read(), CUBE)
    picture = np.random.default_rng(0).integers(0, 255, (9, 13, 3))
    for dtype in ("int16", "uint16", "uint8", "int64"):
        scipy.io.savemat(tmp_path / "b.mat", {"cube": CUBE.transpose(1, 2, 0), "rgb": picture.astype(dtype)})
        inner = open_raw(
            tmp_path / "b.mat", Descriptor(container="matlab", rgb_variable="rgb", wavelengths_nm=NM)
        ).inner_rgb()
        np.testing.assert_array_equal(inner, picture)


@pytest.mark.parametrize(("largest", "white"), [(0.9, 1), (1.04, 1), (250, 255), (4095, 4095)])
def test_float_pictures_inside_a_file_are_shown_by_their_range(tmp_path, largest, white):
    picture = np.linspace(0, largest, 9 * 13 * 3).reshape(9, 13, 3)
    scipy.io.savemat(tmp_path / "a.mat", {"cube": CUBE.transpose(1, 2, 0), "rgb": picture})
    descriptor = Descriptor(container="matlab", rgb_variable="rgb", wavelengths_nm=NM)
    inner = open_raw(tmp_path / "a.mat", descriptor).inner_rgb()
    assert np.abs(inner - np.clip(picture / white, 0, 1) * 255).max() <= 0.5001


def test_a_foreign_zarr_group_is_never_replaced(tmp_path):
    path, descriptor = write("npy", tmp_path)
    zarr.create_group(tmp_path / "mine.zarr").create_array("mydata", data=np.arange(5))
    with pytest.raises(CubeError, match="not the path of a cube"):
        convert_file(path, descriptor, CubeSettings(), tmp_path / "mine.zarr")
    assert (tmp_path / "mine.zarr" / "mydata").is_dir()


def test_a_wide_picture_is_rendered_through_a_file(tmp_path, monkeypatch):
    import hvlabel.cube.write as module

    path, descriptor = write("npy", tmp_path)
    convert_file(path, descriptor, CubeSettings(), tmp_path / "a.zarr")
    monkeypatch.setattr(module, "Linear", lambda folder, h, w, memory, kind=module.Linear: kind(folder, h, w, 0))
    convert_file(path, descriptor, CubeSettings(), tmp_path / "b.zarr")
    np.testing.assert_array_equal(open_cube(tmp_path / "a.zarr").rgb, open_cube(tmp_path / "b.zarr").rgb)
    assert not list((tmp_path / "b.zarr").glob("*.tmp"))
