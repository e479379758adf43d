"""The shipped descriptors: every data set is read as its files are published, and as recorded where a recording exists."""

import json
import struct
from pathlib import Path

import cv2
import h5py
import numpy as np
import PIL.Image
import pytest
import scipy.io
import tifffile

from hvlabel.cli import main
from hvlabel.config import CubeSettings, Dataset
from hvlabel.cube import open_cube
from hvlabel.descriptors import SHIPPED, Descriptor, band_files, load_descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers import open_raw
from hvlabel.stages.convert import convert_file

KEYS = sorted(p.stem for p in SHIPPED.glob("*.yaml") if p.stem != "envi")
RECORDED = [
    "aphid", "arad_1k_16", "arad_1k_31", "cave", "deephsvis", "deephsviscor", "harvard", "hotrednir", "hotvis", "hs_sod", "hsidrive20",
    "hsodbitv2", "hykov2vis", "hyperblood", "hyperspectralcityv2", "libhsi", "umemm", "umld2015", "umns2002", "umri2015", "vnihdhiatlimafb",
]  # fmt: skip
NATIVE_RGB = {"arad_1k_31", "hotrednir", "hotvis", "hs_sod", "hsidrive20", "hsodbitv2", "libhsi"}
H, W = 11, 7


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["hvlabel", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


@pytest.mark.parametrize("key", RECORDED)
def test_recorded_data_sets_through_the_command(shared, tmp_path, monkeypatch, key):
    folder = shared / "oracle" / "readers" / key
    meta = json.loads((folder / "meta.json").read_text())
    assert run(monkeypatch, "convert", "--dataset", key, folder / meta["reader_path"], tmp_path / "a.zarr") == 0
    cube = open_cube(tmp_path / "a.zarr")
    truth = np.load(folder / "truth.npz")["cube"].transpose(2, 0, 1)
    if truth.dtype.kind == "f":
        np.testing.assert_allclose(cube.read(), truth, rtol=1e-6, atol=1e-7 * np.abs(truth).max())
    else:
        np.testing.assert_array_equal(cube.read(), truth)
    assert (cube.attributes["rgb_source"] == "companion") == (key in NATIVE_RGB)
    if key in NATIVE_RGB:
        shown = np.load(folder / "official.npz")["transform"][..., -3:].astype(float)
        shown = shown * 255 if shown.max() <= 1 else shown
        assert np.abs(cube.rgb - shown).max() <= 4


# -------------------------------------------------------------- files of our own, in every form that is published


def values(n_bands, dtype="f4", seed=0):
    """(H, W, C), no symmetry."""
    rng = np.random.default_rng(seed)
    cube = rng.uniform(0, 1, (H, W, n_bands)) + np.arange(H)[:, None, None] / H + 2 * np.arange(W)[:, None] / W
    return (cube * (60 if dtype == "u1" else 1000)).astype(dtype) if dtype[0] == "u" else cube.astype(dtype)


def picture(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(rgb).save(path, quality=100, subsampling=0) if path.suffix == ".jpg" else PIL.Image.fromarray(
        rgb
    ).save(path)


def smooth_rgb(height=H, width=W):
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 200 // height, x * 200 // width, 90 + (y + x)], axis=2).astype(np.uint8)


def mat5(path, **content):
    scipy.io.savemat(path, content, do_compression=True)


def mat73(path, **content):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in content.items():
            file[name] = value.transpose()  # MATLAB order reversed
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


def envi(header, data, cube, interleave="bil"):
    axes = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}[interleave]
    cube.transpose(axes).tofile(data)
    code = {"float32": 4, "uint16": 12}[str(cube.dtype)]
    header.write_text(
        f"ENVI\nsamples = {cube.shape[1]}\nlines = {cube.shape[0]}\nbands = {cube.shape[2]}\ndata type = {code}\ninterleave = {interleave}\nbyte order = 0\n"
    )


def mosaic(path, cube, side):
    path.parent.mkdir(parents=True, exist_ok=True)
    h, w, _ = cube.shape
    frame = cube.reshape(h, w, side, side).transpose(0, 2, 1, 3).reshape(h * side, w * side)
    cv2.imwrite(str(path), frame)


def make(key, folder):
    """(raw path, upright (H, W, C) values, RGB or None): a file as the data set's own form has it."""
    rgb = smooth_rgb()
    match key:
        case "fiftyoutdoor":
            cube = values(33, "f8")
            mat5(folder / "a.mat", hsi=cube)
            return folder / "a.mat", cube, None
        case "aphid":
            cube = values(237, "u1")
            np.save(folder / "a.npy", cube.transpose(2, 0, 1))
            return folder / "a.npy", cube, None
        case "arad_1k_16":
            cube = values(16)
            mat73(folder / "a.mat", cube=cube)
            return folder / "a.mat", cube, None
        case "arad_1k_31":
            cube = values(31)
            (folder / "mats" / "mats").mkdir(parents=True)  # a parent of the same name is left alone
            mat73(folder / "mats" / "mats" / "a.mat", cube=cube)
            picture(folder / "mats" / "rgb" / "a.jpg", rgb)
            return folder / "mats" / "mats" / "a.mat", cube, rgb
        case "cave":
            cube = values(31, "u2")
            scene = folder / "balloons_ms" / "balloons_ms"
            scene.mkdir(parents=True)
            for k in range(31):
                cv2.imwrite(str(scene / f"balloons_ms_{k + 1:02d}.png"), cube[..., k])
            PIL.Image.fromarray(rgb).save(scene / "balloons_RGB.bmp")
            return scene, cube, rgb
        case "deephsnir" | "deephsvis" | "deephsviscor":
            cube = values({"deephsnir": 252, "deephsvis": 224, "deephsviscor": 249}[key])
            envi(folder / "a.hdr", folder / "a.bin", cube)
            return folder / "a.bin", cube, None
        case "harvard":
            cube = values(31, "f8")
            mat5(folder / "a.mat", ref=cube, lbl=np.ones((H, W)), calib=np.ones((1, 31)))
            return folder / "a.mat", cube, None
        case "hotvis" | "hotnir" | "hotrednir":
            side = 5 if key == "hotnir" else 4
            name = {"hotvis": "HSI-VIS", "hotnir": "HSI-NIR", "hotrednir": "HSI-RedNIR"}[key]
            cube = values(side * side, "u2")
            mosaic(folder / name / "car" / "0001.png", cube, side)
            picture(folder / f"{name}-FalseColor" / "car" / "0001.jpg", rgb)
            return folder / name / "car" / "0001.png", cube[..., : 15 if key == "hotrednir" else None], rgb
        case "hs_sod":
            cube = values(81, "u2")
            (folder / "hyperspectral").mkdir()
            mat73(folder / "hyperspectral" / "a.mat", hypercube=cube)
            picture(folder / "color" / "a.jpg", rgb)
            return folder / "hyperspectral" / "a.mat", cube, rgb
        case "hsidrive20":
            cube = values(25)
            (folder / "images" / "test").mkdir(parents=True)
            mat5(folder / "images" / "test" / "n1_MF_TC.mat", cube=cube)
            picture(folder / "RGB" / "n1_pseudocolor.png", rgb)
            return folder / "images" / "test" / "n1_MF_TC.mat", cube, rgb
        case "hsiroad":
            cube = values(25, "u1")
            tifffile.imwrite(folder / "a_nir.tif", cube.transpose(2, 0, 1), photometric="minisblack")
            return folder / "a_nir.tif", cube, None
        case "hsodbitv2":
            cube = values(200)
            (folder / "hyperspectral").mkdir()
            mat73(folder / "hyperspectral" / "a.h5", dataset=cube)
            picture(folder / "color" / "a.jpg", rgb)
            return folder / "hyperspectral" / "a.h5", cube.transpose(1, 0, 2), rgb.transpose(1, 0, 2)
        case "hykov2nir" | "hykov2vis":
            cube = values(25 if key == "hykov2nir" else 15, "f8")
            nm = np.linspace(475.5, 630.5, 15) if key == "hykov2vis" else np.empty((0, 0))
            own = {"wavelengths": nm} if nm.size else {}
            mat5(folder / "a.mat", data=cube, image=rgb, stats={"mean": 1.0}, **own)
            return folder / "a.mat", cube, None
        case "hyperblood":
            cube = values(128)
            tall = np.concatenate([cube] * 41)[:448]
            tifffile.imwrite(
                folder / "F_1.tif", tall.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate"
            )
            kept = np.r_[5:48, 51:121]
            return folder / "F_1.tif", np.delete(tall, 445, axis=0)[..., kept], None
        case "hyperdrivevnir":
            cube = values(33)
            (folder / "HSI_REGISTERED").mkdir()
            np.savez_compressed(folder / "HSI_REGISTERED" / "a.npz", cube=cube)
            picture(folder / "RGB_REGISTERED" / "a.png", rgb)
            return folder / "HSI_REGISTERED" / "a.npz", cube[..., :24], rgb
        case "hyperspectralcityv2":
            rng = np.random.default_rng(1)
            mean, coefficients = rng.uniform(1, 2, 128).astype("<f4"), rng.normal(0, 1, (6, 128)).astype("<f4")
            scores = rng.normal(0, 1, (H * W, 6)).astype("<f4")
            head = struct.pack("<5ifi", H, W, 128, 6, 452, 4.0, 960)
            (folder / "a.hsd").write_bytes(head + mean.tobytes() + coefficients.tobytes() + scores.tobytes())
            return folder / "a.hsd", (scores.astype("f8") @ coefficients + mean).reshape(H, W, 128), None
        case "icvl":
            cube = values(31)
            # stored so that a quarter turn counter-clockwise brings it upright; the picture is upright already
            mat73(folder / "a.h5", rad=np.rot90(cube, -1), rgb=rgb / 255, bands=np.linspace(400, 700, 31)[None])
            return folder / "a.h5", cube, rgb
        case "libhsi":
            cube = values(204)
            (folder / "train" / "reflectance_cubes").mkdir(parents=True)
            base = folder / "train" / "reflectance_cubes"
            envi(base / "a.hdr", base / "a.dat", np.rot90(cube, 1))
            picture(folder / "train" / "rgb" / "a.png", rgb)
            return base / "a.hdr", cube, rgb
        case "virginia_tech_tree" | "vnihdhiatlimafb":
            cube = values(420, "u2") if key.startswith("virginia") else values(204)
            envi(folder / "a.hdr", folder / "a.raw", cube, "bip" if key.startswith("virginia") else "bil")
            return folder / "a.hdr", cube.transpose(1, 0, 2), None
        case _:  # the six of Manchester: a scene under any name, tables beside it
            cube = values(31 if key == "umns2002" else 33, "f8")
            mat5(folder / "a.mat", ref_cyf=np.ones((33, 2)), reflectances=cube, zz_last=np.ones((5, 2)))
            return folder / "a.mat", cube, None


@pytest.mark.parametrize("key", KEYS)
def test_every_data_set(tmp_path, monkeypatch, key):
    raw, upright, rgb = make(key, tmp_path)
    out = tmp_path / "out" / "a.zarr"
    assert run(monkeypatch, "convert", "--dataset", key, raw, out) == 0
    cube = open_cube(out)
    truth = upright.transpose(2, 0, 1)
    if key == "hyperspectralcityv2":
        np.testing.assert_allclose(cube.read(), truth, rtol=1e-5, atol=1e-5)
        assert cube.wavelengths_nm[[0, -1]].tolist() == [452, 452 + 127 * 4]  # the header's
    else:
        np.testing.assert_array_equal(cube.read(), truth)
        assert cube.dtype == truth.dtype
    assert (cube.attributes["rgb_source"] == "companion") == (rgb is not None)
    if rgb is not None:
        assert np.abs(cube.rgb.astype(int) - rgb).max() <= (8 if raw.suffix not in (".npz", ".mat", "") else 4)

    # the same files are found by a scan of the folder, without a glob
    from hvlabel.config.tree import parse_config
    from hvlabel.manifest import scan

    tree = {"results": str(tmp_path / "r"), "datasets": {"x": {"root": str(tmp_path), "descriptor": key}}}
    assert [i.raw for i in scan(parse_config(tree, "test")).images] in ([str(raw)], [str(raw.with_suffix(".hdr"))])


def test_there_are_31_data_sets_with_the_images_of_the_paper():
    assert len(KEYS) == 31
    abouts = [load_descriptor(k, k).about for k in KEYS]
    assert sum(a.images for a in abouts) == 14_959
    assert all(a.title and a.source and a.licence for a in abouts)


def test_bands_and_wavelengths_agree_with_the_fact_sheet(shared):
    import yaml

    for fact in yaml.safe_load((shared / "datasets.yaml").read_text()):
        descriptor = load_descriptor(fact["key"], fact["key"])
        np.testing.assert_allclose(descriptor.known_wavelengths_nm(), fact["wavelengths"]["values_nm"], atol=2e-3)
        low = fact["wavelengths"]["confidence"].startswith("LOW")
        assert (descriptor.wavelength_confidence == "placeholder") == low, fact["key"]
        assert descriptor.about.images == fact["table1"]["images"]


# -------------------------------------------------------------- other forms, and what people change


def test_cave_with_eight_bit_colour_bands_and_without_a_picture(tmp_path):
    raw, upright, _ = make("cave", tmp_path)
    (raw / "balloons_RGB.bmp").unlink()
    grey = (upright[..., 4] % 256).astype(np.uint8)
    cv2.imwrite(str(raw / "balloons_ms_05.png"), np.dstack([grey, grey, grey, np.full_like(grey, 255)]))
    attributes = convert_file(raw, load_descriptor("x", "cave"), CubeSettings(), tmp_path / "a.zarr")
    assert attributes["rgb_source"] == "cie"
    np.testing.assert_array_equal(open_cube(tmp_path / "a.zarr").read(bands=4)[0], grey.astype(int) * 257)
    for band in (17, 18):
        (raw / f"balloons_ms_{band}.png").rename(raw / f"balloons_ms_{band}.PNG")
    cv2.imwrite(str(raw / "balloons_RGB.png"), smooth_rgb())  # no band
    (raw / "._balloons_ms_05.png").write_bytes(b"of a file manager")
    assert open_raw(raw, load_descriptor("x", "cave").form_for(raw)).shape == (31, H, W)
    raw = raw.rename(tmp_path / "renamed")
    assert open_raw(raw, load_descriptor("x", "cave").form_for(raw)).shape == (31, H, W)
    (raw / "balloons_ms_17.PNG").unlink()
    with pytest.raises(RawFileError, match="30 PNG files for 31 bands"):
        open_raw(raw, load_descriptor("x", "cave").form_for(raw))


def test_hyperblood_original_with_all_bands(tmp_path):
    cube = np.concatenate([values(128)] * 41)[:448]
    envi(tmp_path / "B_1.hdr", tmp_path / "B_1.float", cube)
    descriptor = load_descriptor("x", "hyperblood")
    raw = open_raw(tmp_path / "B_1.float", descriptor.form_for(tmp_path / "B_1.float"))
    np.testing.assert_array_equal(raw.read(), np.delete(cube, 445, axis=0).transpose(2, 0, 1))
    assert raw.wavelengths_nm[0] == 376.82
    other = tmp_path / "F_2k.tif"
    tifffile.imwrite(other, values(116).transpose(2, 0, 1), photometric="minisblack")
    assert open_raw(other, descriptor.form_for(other)).shape == (113, H, W)
    for name in ("F_2k", "F(2k)"):  # the other camera's, whose header may name no wavelengths
        envi(tmp_path / f"{name}.hdr", tmp_path / f"{name}.float", values(116))
        raw = open_raw(tmp_path / f"{name}.hdr", descriptor.form_for(tmp_path / f"{name}.hdr"))
        assert raw.shape == (116, H, W)
        assert (raw.wavelengths_nm[0], raw.wavelengths_nm[-1]) == (401.5636, 1006.7258)


def test_the_last_of_several_scenes_in_a_file_is_read_as_the_published_reader_does(tmp_path):
    radiances, reflectances = values(33), values(33, seed=1)
    mat5(tmp_path / "scene.mat", some_radiances=radiances, reflectances=reflectances, shown=values(3))
    raw = open_raw(tmp_path / "scene.mat", load_descriptor("x", "umns2004"))
    np.testing.assert_array_equal(raw.read(), reflectances.transpose(2, 0, 1))


def test_a_file_of_unusual_name_is_read_by_the_form_of_its_suffix(tmp_path):
    cube = values(25)
    mat5(tmp_path / "nf3112_104_MF.mat", cube=cube)
    form = load_descriptor("x", "hsidrive20").form_for(tmp_path / "nf3112_104_MF.mat")
    np.testing.assert_array_equal(open_raw(tmp_path / "nf3112_104_MF.mat", form).read(), cube.transpose(2, 0, 1))


def test_forms_by_suffix_and_for_folders(tmp_path):
    def forms(**main):
        other = [{"files": "*_TC.mat", "variable": "tc"}, {"files": "*.hdr", "container": "envi"}]
        bands = {"files": "*_ms", "container": "band_png"}
        return Descriptor(container="matlab", variable="cube", other_forms=[*other, bands], **main)

    for files in (None, "hyper/*", "*.mat"):
        assert forms(files=files).form_for(tmp_path / "scene1.mat").variable == "cube"
    assert forms(files="*.npy").form_for(tmp_path / "scene1.mat").variable == "tc"
    assert forms().form_for(tmp_path).container == "band_png"


def test_foreign_pictures_in_a_folder_of_bands(tmp_path):
    for nm in range(400, 710, 10):
        (tmp_path / f"{nm}nm.png").touch()
    for name in ("thumb_1.png", "a².png"):
        (tmp_path / name).touch()
    assert len(band_files(tmp_path)) == 33  # most names end in letters: who could tell which are none


def test_companions_are_found_from_inside_their_folder_and_in_capitals(tmp_path, monkeypatch, capsys):
    raw, _, _ = make("hotnir", tmp_path)
    companion = load_descriptor("x", "hotnir").companion_of(raw)
    companion.rename(companion.with_suffix(".JPG"))
    monkeypatch.chdir(raw.parent)
    attributes = convert_file(Path(raw.name), load_descriptor("x", "hotnir"), CubeSettings(), tmp_path / "a.zarr")
    assert attributes["rgb_source"] == "companion"
    assert run(monkeypatch, "convert", "--dataset", "cave", ".", tmp_path / "b.zarr") == 2
    assert "1 PNG files for 31 bands" in capsys.readouterr().err


def test_matlab_versions_are_told_apart_by_signature(tmp_path):
    cube = values(81, "u2")
    mat5(tmp_path / "v5.h5", hypercube=cube)
    mat73(tmp_path / "v73.mat", hypercube=cube)
    for name in ("v5.h5", "v73.mat"):
        form = load_descriptor("x", "hs_sod").form_for(tmp_path / name)
        np.testing.assert_array_equal(open_raw(tmp_path / name, form).read(), cube.transpose(2, 0, 1))


def test_hyko_takes_the_wavelengths_of_the_file_where_it_has_them(tmp_path):
    for key, source in (("hykov2vis", "file"), ("hykov2nir", "descriptor")):
        raw, _, _ = make(key, tmp_path)
        opened = open_raw(raw, load_descriptor("x", key))
        assert opened.wavelengths_from == source
    assert opened.wavelengths_nm[0] == 673.37
    mat5(tmp_path / "z.mat", data=values(25, "u2"), wavelengths=np.zeros(25))  # never filled in
    assert open_raw(tmp_path / "z.mat", load_descriptor("x", "hykov2nir")).wavelengths_from == "descriptor"


def test_one_frame_of_every_hundred_and_a_calibrated_table(tmp_path):
    from hvlabel.config.tree import parse_config
    from hvlabel.manifest import scan

    folder = tmp_path / "HSI-VIS"
    for name, n in (("a", 201), ("b", 3)):
        (folder / name).mkdir(parents=True)
        for k in range(1, n + 1):
            (folder / name / f"{k:04d}.png").touch()
    nm = [481, 491, 470, 460, 568, 579, 554, 543, 611, 620, 601, 591, 527, 539, 514, 504]
    own = {"root": str(tmp_path), "descriptor": "hotvis", "wavelengths_nm": nm}
    tree = {"results": str(tmp_path / "r"), "datasets": {"hot": own, "all": {**own, "every": 1}}}
    config = parse_config(tree, "test")
    found = [i.image_id for i in scan(config).images if i.dataset == "hot"]
    assert found == ["HSI-VIS__a__0001", "HSI-VIS__a__0101", "HSI-VIS__a__0201", "HSI-VIS__b__0001"]
    assert sum(i.dataset == "all" for i in scan(config).images) == 204
    described = config.datasets["hot"].described("hot")
    assert described.known_wavelengths_nm() == nm
    assert described.wavelength_confidence == "calibrated"
    assert Dataset(root="x", descriptor="hotvis").described("hot").wavelength_confidence == "placeholder"
