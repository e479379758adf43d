"""A file as each shipped data set has it: `published(key, folder)` writes one in the form in which it is downloaded."""

from typing import NamedTuple

import numpy as np
import PIL.Image
import raw_files

H, W = 11, 7


class Published(NamedTuple):
    """A raw file and what must be read from it.

    path    : what is given to the reader
    upright : (H, W, C) values
    rgb     : (H, W, 3) uint8 companion, or None
    """

    path: object
    upright: np.ndarray
    rgb: np.ndarray | None = None


def values(n_bands, dtype="f4", seed=0):
    """(H, W, C), no symmetry."""
    rng = np.random.default_rng(seed)
    slope = np.arange(H)[:, None, None] / H + 2 * np.arange(W)[:, None] / W
    cube = rng.uniform(0, 1, (H, W, n_bands)) + slope
    if dtype[0] == "f":
        return cube.astype(dtype)
    return (cube * (60 if dtype == "u1" else 1000)).astype(dtype)


def smooth_rgb(height=H, width=W):
    """(height, width, 3) uint8 that JPEG changes little."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 200 // height, x * 200 // width, 90 + (y + x)], axis=2).astype(np.uint8)


RGB = smooth_rgb()


def write_picture(path, rgb=RGB):
    """A companion, with as little loss as its format allows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}
    PIL.Image.fromarray(rgb).save(path, **options)


def write_envi(header, data, cube, interleave="bil"):
    """An ENVI pair of an (H, W, C) cube."""
    raw_files.envi(header, cube.transpose(2, 0, 1), interleave, data=data)


def below(folder, *names):
    """A folder inside a folder, made."""
    inner = folder.joinpath(*names)
    inner.mkdir(parents=True)
    return inner


# ----------------------------------------------------------------------------------------------------- MATLAB


def fiftyoutdoor(folder):
    cube = values(33, "f8")
    return Published(raw_files.mat5(folder / "a.mat", hsi=cube), cube)


def arad_16(folder):
    cube = values(16)
    return Published(raw_files.mat73(folder / "a.mat", cube=cube), cube)


def arad_31(folder):
    cube = values(31)
    inner = below(folder, "mats", "mats")  # a parent of the same name is left alone
    write_picture(folder / "mats" / "rgb" / "a.jpg")
    return Published(raw_files.mat73(inner / "a.mat", cube=cube), cube, RGB)


def harvard(folder):
    cube = values(31, "f8")
    calibration = {"lbl": np.ones((H, W)), "calib": np.ones((1, 31))}
    return Published(raw_files.mat5(folder / "a.mat", ref=cube, **calibration), cube)


def hs_sod(folder):
    cube = values(81, "u2")
    write_picture(folder / "color" / "a.jpg")
    return Published(raw_files.mat73(below(folder, "hyperspectral") / "a.mat", hypercube=cube), cube, RGB)


def hsi_drive(folder):
    cube = values(25)
    write_picture(folder / "RGB" / "n1_pseudocolor.png")
    return Published(raw_files.mat5(below(folder, "images", "test") / "n1_MF_TC.mat", cube=cube), cube, RGB)


def hyko_nir(folder):
    cube = values(25, "f8")
    return Published(raw_files.mat5(folder / "a.mat", data=cube, image=RGB, stats={"mean": 1.0}), cube)


def hyko_vis(folder):
    cube = values(15, "f8")
    more = {"stats": {"mean": 1.0}, "wavelengths": np.linspace(475.5, 630.5, 15)}
    return Published(raw_files.mat5(folder / "a.mat", data=cube, image=RGB, **more), cube)


def manchester(n_bands):
    """A scene under any name, tables beside it."""

    def write(folder):
        cube = values(n_bands, "f8")
        before, after = np.ones((33, 2)), np.ones((5, 2))
        path = raw_files.mat5(folder / "a.mat", ref_cyf=before, reflectances=cube, zz_last=after)
        return Published(path, cube)

    return write


# ------------------------------------------------------------------------------------------------ HDF5 and npy


def hsod_bit(folder):
    cube = values(200)
    write_picture(folder / "color" / "a.jpg")
    path = raw_files.mat73(below(folder, "hyperspectral") / "a.h5", dataset=cube)
    return Published(path, cube.transpose(1, 0, 2), RGB.transpose(1, 0, 2))


def icvl(folder):
    cube = values(31)
    # stored so that a quarter turn counter-clockwise brings it upright; the picture is upright already
    content = {"rad": np.rot90(cube, -1), "rgb": RGB / 255, "bands": np.linspace(400, 700, 31)[None]}
    return Published(raw_files.mat73(folder / "a.h5", **content), cube, RGB)


def aphid(folder):
    cube = values(237, "u1")
    return Published(raw_files.npy(folder / "a.npy", cube.transpose(2, 0, 1)), cube)


def hyperdrive(folder):
    cube = values(33)
    write_picture(folder / "RGB_REGISTERED" / "a.png")
    path = raw_files.npz(below(folder, "HSI_REGISTERED") / "a.npz", cube=cube)
    return Published(path, cube[..., :24], RGB)


# -------------------------------------------------------------------------------------------------------- ENVI


def deephs(n_bands):
    """The data file is named, not the header."""

    def write(folder):
        cube = values(n_bands)
        write_envi(folder / "a.hdr", folder / "a.bin", cube)
        return Published(folder / "a.bin", cube)

    return write


def libhsi(folder):
    cube = values(204)
    inner = below(folder, "train", "reflectance_cubes")
    write_envi(inner / "a.hdr", inner / "a.dat", np.rot90(cube, 1))
    write_picture(folder / "train" / "rgb" / "a.png")
    return Published(inner / "a.hdr", cube, RGB)


def virginia_tech(folder):
    cube = values(420, "u2")
    write_envi(folder / "a.hdr", folder / "a.raw", cube, "bip")
    return Published(folder / "a.hdr", cube.transpose(1, 0, 2))


def vnihd(folder):
    cube = values(204)
    write_envi(folder / "a.hdr", folder / "a.raw", cube)
    return Published(folder / "a.hdr", cube.transpose(1, 0, 2))


# ----------------------------------------------------------------------------------------- pictures, TIFF, HSD


def cave(folder):
    cube = values(31, "u2")
    scene = folder / "balloons_ms" / "balloons_ms"
    raw_files.band_pngs(scene, cube.transpose(2, 0, 1), "balloons_ms_{n:02d}.png")
    write_picture(scene / "balloons_RGB.bmp")
    return Published(scene, cube, RGB)


def hot(name, side, n_bands):
    """A snapshot mosaic, of whose bands the last may be left out."""

    def write(folder):
        cube = values(side * side, "u2")
        path = below(folder, name, "car") / "0001.png"
        raw_files.mosaic(path, cube.transpose(2, 0, 1), side)
        write_picture(folder / f"{name}-FalseColor" / "car" / "0001.jpg")
        return Published(path, cube[..., :n_bands], RGB)

    return write


def hsi_road(folder):
    cube = values(25, "u1")
    return Published(raw_files.tiff(folder / "a_nir.tif", cube.transpose(2, 0, 1)), cube)


def tall_cube():
    """(448, W, 128), as high as HyperBlood's."""
    return np.concatenate([values(128)] * 41)[:448]


def hyper_blood(folder):
    tall = tall_cube()
    path = raw_files.tiff(folder / "F_1.tif", tall.transpose(2, 0, 1), planarconfig="separate")
    kept = np.r_[5:48, 51:121]
    return Published(path, np.delete(tall, 445, axis=0)[..., kept])


def hyperspectral_city(folder):
    rng = np.random.default_rng(1)
    mean = rng.uniform(1, 2, 128).astype("<f4")
    coefficients = rng.normal(0, 1, (6, 128)).astype("<f4")
    scores = rng.normal(0, 1, (H * W, 6)).astype("<f4")
    path = raw_files.hsd(folder / "a.hsd", (H, W), mean, coefficients, scores, 452, 4.0, 960)
    cube = scores.astype("f8") @ coefficients + mean
    return Published(path, cube.reshape(H, W, 128))


WRITERS = {
    "fiftyoutdoor": fiftyoutdoor,
    "aphid": aphid,
    "arad_1k_16": arad_16,
    "arad_1k_31": arad_31,
    "cave": cave,
    "deephsnir": deephs(252),
    "deephsvis": deephs(224),
    "deephsviscor": deephs(249),
    "harvard": harvard,
    "hotnir": hot("HSI-NIR", 5, 25),
    "hotrednir": hot("HSI-RedNIR", 4, 15),
    "hotvis": hot("HSI-VIS", 4, 16),
    "hs_sod": hs_sod,
    "hsidrive20": hsi_drive,
    "hsiroad": hsi_road,
    "hsodbitv2": hsod_bit,
    "hykov2nir": hyko_nir,
    "hykov2vis": hyko_vis,
    "hyperblood": hyper_blood,
    "hyperdrivevnir": hyperdrive,
    "hyperspectralcityv2": hyperspectral_city,
    "icvl": icvl,
    "libhsi": libhsi,
    "umemm": manchester(33),
    "umld2015": manchester(33),
    "umns2002": manchester(31),
    "umns2004": manchester(33),
    "umos": manchester(33),
    "umri2015": manchester(33),
    "virginia_tech_tree": virginia_tech,
    "vnihdhiatlimafb": vnihd,
}


def published(key, folder):
    """A file of the data set."""
    return WRITERS[key](folder)
