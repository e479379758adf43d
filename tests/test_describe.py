"""Looking into files of unknown cameras: what is printed can be saved and used as it is."""

import h5py
import numpy as np
import PIL.Image
import pytest
import scipy.io
import tifffile
import yaml

from hvlabel.config import CubeSettings
from hvlabel.cube import open_cube
from hvlabel.describe import describe, sniff
from hvlabel.descriptors import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.stages.convert import convert_file

H, W, C = 20, 31, 7
YXC = np.random.default_rng(0).integers(1, 4000, (H, W, C)).astype("uint16")
NM = np.array([450.0, 500, 550, 600, 650, 700, 750])


def write(kind, folder):
    match kind:
        case "envi":
            YXC.tofile(folder / "a.img")
            (folder / "a.hdr").write_text(
                f"ENVI\nsamples = {W}\nlines = {H}\nbands = {C}\ndata type = 12\ninterleave = bip\nwavelength units = Micrometers\n"
                f"wavelength = {{{', '.join(str(v / 1000) for v in NM)}}}\nreflectance scale factor = 4000\n"
            )
            return folder / "a.img"
        case "npy":
            np.save(folder / "a.npy", YXC)
        case "npz":
            np.savez(folder / "a.npz", scan=YXC, centres=NM / 1000, label=np.zeros((H, W), int))
        case "mat":
            picture = np.arange(H * W * 3, dtype=np.uint8).reshape(H, W, 3)
            scipy.io.savemat(
                folder / "a.mat", {"HSI": YXC, "lambda": NM[:, None], "rgb": picture, "note": "text", "s": {"x": 1}}
            )
        case "h5":
            with h5py.File(folder / "a.h5", "w") as file:
                file["scan/cube"] = YXC
                file["scan/wavelength"] = NM
                file["time"] = np.arange(5.0)
        case "tif":
            tifffile.imwrite(folder / "a.tif", YXC.transpose(2, 0, 1), photometric="minisblack")
        case "png":
            frame = np.tile(np.arange(9).reshape(3, 3) * 3000, (20, 30)) + np.random.default_rng(1).integers(
                0, 99, (60, 90)
            )
            PIL.Image.fromarray(frame.astype("uint16")).save(folder / "a.png")
        case "bands":
            (folder / "a").mkdir()
            for k in range(C):
                PIL.Image.fromarray(np.ascontiguousarray(YXC[..., k])).save(folder / "a" / f"band{k + 1}.png")
            return folder / "a"
    return folder / f"a.{kind}"


# kind -> container, wavelengths that it must know, words of the questions that it must ask
KINDS = {
    "envi": ("envi", True, []),
    "npy": ("npy", False, ["band centres", "counts the bands", "right way round"]),
    "npz": ("npy", True, ["right way round"]),
    "mat": ("matlab", True, ["is rgb an RGB picture"]),
    "h5": ("hdf5", True, ["right way round"]),
    "tif": ("tiff", False, ["band centres", "counts the bands"]),
    "png": ("mosaic_png", False, ["pattern 3x3", "pixel order"]),
    "bands": ("band_png", False, ["band centres"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_printed_descriptor_converts_the_file(tmp_path, kind):
    path = write(kind, tmp_path)
    container, knows_nm, questions = KINDS[kind]
    text = describe(path)
    tree = yaml.safe_load(text)
    assert tree["container"] == container
    asked = [line for line in text.splitlines() if line.startswith("# ? ")]
    for words in questions:
        assert any(words in line for line in asked), text
    descriptor = Descriptor.model_validate(tree)
    attributes = convert_file(path, descriptor, CubeSettings(), tmp_path / "a.zarr")
    cube = open_cube(tmp_path / "a.zarr")
    if kind != "png":
        np.testing.assert_array_equal(cube.read(), YXC.transpose(2, 0, 1))
    else:
        assert cube.shape == (9, 20, 30)
    if knows_nm:
        np.testing.assert_allclose(cube.wavelengths_nm, NM)
        assert not any("band centres" in line for line in asked)
    else:
        assert attributes["wavelength_confidence"] == "placeholder"
    assert (attributes["rgb_source"] == "companion") == (kind == "mat")


def test_it_lists_what_the_file_holds(tmp_path):
    text = describe(write("mat", tmp_path))
    for line in (
        "HSI: 20x31x7 uint16",
        "lambda: 7x1 float64",
        "note: 1x4 char",
        "s: 1x1 struct",
        "7 bands of 31x20 px",
    ):
        assert line in text


def test_a_picture_beside_the_file_is_proposed(tmp_path):
    path = write("npy", tmp_path)
    (tmp_path / "rgb").mkdir()
    (tmp_path / "raw").mkdir()
    path = path.rename(tmp_path / "raw" / "a.npy")
    PIL.Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(tmp_path / "rgb" / "a.jpg")
    text = describe(path)
    assert yaml.safe_load(text)["rgb_companion"] == "../rgb/{stem}.jpg"
    assert "picture of the same view" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no known format"),
        (b"hello", "no known format"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "cannot be read as hdf5"),
    ],
)
def test_refusals(tmp_path, content, message):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(RawFileError, match=message):
        describe(tmp_path / "a.bin")
    with pytest.raises(RawFileError, match="a folder with fewer than 4"):
        sniff(tmp_path)
    with pytest.raises(RawFileError, match="cannot read the file"):
        sniff(tmp_path / "none")
    scipy.io.savemat(tmp_path / "flat.mat", {"a": np.ones((3, 4))})
    with pytest.raises(RawFileError, match="no three-dimensional array of numbers"):
        describe(tmp_path / "flat.mat")


def test_the_demo_cameras_and_the_recorded_files_can_be_described(shared):
    for folder in sorted((shared / "oracle" / "readers").iterdir()):
        if not folder.is_dir():
            continue
        for path in (folder / "raw").rglob("*"):
            if path.is_file() and path.suffix in (".mat", ".h5", ".npy", ".hdr", ".hsd", ".tif"):
                assert yaml.safe_load(describe(path))["container"]


def test_centres_are_found_wherever_they_stand(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"] = YXC
        file["cube"].attrs["wavelength"] = NM[::-1] / 1000  # falling, and in an attribute
    tree = yaml.safe_load(describe(tmp_path / "a.h5"))
    assert tree["wavelength_variable"] == "cube@wavelength"
    attributes = convert_file(tmp_path / "a.h5", Descriptor.model_validate(tree), CubeSettings(), tmp_path / "a.zarr")
    np.testing.assert_allclose(attributes["wavelengths_nm"], NM[::-1])
    assert attributes["wavelength_confidence"] == "calibrated"


@pytest.mark.parametrize("says_its_size", [True, False])
def test_a_matrix_of_bands_and_pixels_is_proposed_with_its_shape(tmp_path, says_its_size):
    rows, columns = (H, W) if says_its_size else (20, 20)
    square = np.ascontiguousarray(YXC[:, :columns])
    content = {"V": square.transpose(2, 1, 0).reshape(C, -1), "maxValue": 4000}
    if says_its_size:
        content |= {"nRow": rows, "nCol": columns}
    scipy.io.savemat(tmp_path / "a.mat", content)
    text = describe(tmp_path / "a.mat")
    tree = yaml.safe_load(text)
    assert tree["shape"] == [rows, columns]
    assert ("square, guessed" in text) != says_its_size
    convert_file(tmp_path / "a.mat", Descriptor.model_validate(tree), CubeSettings(), tmp_path / "a.zarr")
    np.testing.assert_array_equal(open_cube(tmp_path / "a.zarr").read(), square.transpose(2, 0, 1))


def test_what_a_file_says_about_its_values_is_told(tmp_path):
    path = write("envi", tmp_path)
    gains = ", ".join(str(0.1 * (k + 1)) for k in range(C))
    header = path.with_suffix(".hdr")
    header.write_text(
        header.read_text() + f"bbl = {{1, 1, 0, 1, 1, 1, 1}}\ndata ignore value = 0\ndata gain values = {{{gains}}}\n"
        "map info = {UTM, 1, 1, 5e5, 4.6e6, 2, 2, 33, North, WGS-84}\n"
    )
    text = describe(path)
    for words in ("names 1 bands, which are left out: 2", "0 stands for no data", "gains and offsets", "EPSG:32633"):
        assert words in text


def test_centres_that_cannot_be_believed_are_told_and_replaced(tmp_path):
    path = write("envi", tmp_path)
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("Micrometers", "Nanometers"))
    text = describe(path)
    assert "cannot be believed" in text
    assert "micrometres" in text
    assert yaml.safe_load(text)["wavelength_confidence"] == "placeholder"


def test_a_folder_of_mixed_files_gives_a_descriptor_for_each_kind(tmp_path):
    for kind in ("envi", "npy", "mat", "h5"):
        write(kind, tmp_path)
    (tmp_path / "sub").mkdir()
    bands = write("bands", tmp_path / "sub")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "rgb.png").write_bytes((next(bands.glob("*.png"))).read_bytes())
    trees = list(yaml.safe_load_all(describe(tmp_path)))
    assert {t["container"] for t in trees} == {"envi", "npy", "matlab", "hdf5", "band_png"}
    for tree in trees:
        Descriptor.model_validate(tree)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RawFileError, match="no raw file of a known kind"):
        describe(empty)
    (empty / "a.mat").write_bytes(b"damaged")
    text = describe(empty)
    assert "a.mat" in text
    assert all(line.startswith("#") for line in text.splitlines())


def test_netcdf_is_told_by_its_content(tmp_path):
    with scipy.io.netcdf_file(tmp_path / "a.dat", "w") as file:
        for name, size in (("y", H), ("x", W), ("band", C)):
            file.createDimension(name, size)
        file.createVariable("values", "i2", ("y", "x", "band"))[:] = YXC.astype("i2")
        file.createVariable("wavelength", "f8", ("band",))[:] = NM
    tree = yaml.safe_load(describe(tmp_path / "a.dat"))
    assert (tree["container"], tree["variable"], tree["wavelength_variable"]) == ("netcdf", "values", "wavelength")
    convert_file(tmp_path / "a.dat", Descriptor.model_validate(tree), CubeSettings(), tmp_path / "a.zarr")
    np.testing.assert_array_equal(open_cube(tmp_path / "a.zarr").read(), YXC.transpose(2, 0, 1))
