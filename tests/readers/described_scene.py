"""One small scene in files that say something of it: two objects on a ground, and no data on the right."""

import numpy as np
import raw_files
import scipy.io

from hvlabel.config import CubeSettings
from hvlabel.cube import open_cube
from hvlabel.descriptors import Descriptor
from hvlabel.stages.convert import convert_file

N, H, W = 8, 40, 48
NM = [420.0 + 40 * k for k in range(N)]
IGNORED = -9999
HOLE = np.zeros((H, W), bool)
HOLE[:, 30:] = True
BBL = [1, 1, 0, 1, 1, 0, 1, 1]  # bad bands list: 1 for a good band
KEPT = [k for k, good in enumerate(BBL) if good]
UTM = "{UTM, 1.000, 1.000, 500000.000, 4600000.000, 2.0, 2.0, 33, North, WGS-84, units=Meters}"
OF_ENVI = Descriptor(container="envi")
OF_HDF5 = Descriptor(container="hdf5", axes="cyx")
OF_MATLAB = Descriptor(container="matlab")


def scene():
    """Values, (C, H, W) int16, and which object is where, (H, W)."""
    rng = np.random.default_rng(3)
    spectra = rng.uniform(300, 3000, (3, N))
    place = np.zeros((H, W), int)
    place[5:17, 4:18] = 1
    place[22:34, 12:26] = 2
    noise = rng.normal(0, 8, (N, H, W))
    values = (spectra[place].transpose(2, 0, 1) + noise).astype("i2")
    values[:, HOLE] = IGNORED
    return values, place


SCENE, PLACE = scene()


def envi(folder, values=SCENE, name="a", **fields):
    """An ENVI pair and its descriptor; fields as of `raw_files.envi`."""
    known = {"wavelength_units": "Nanometers", "wavelength": NM, "data_ignore_value": IGNORED}
    return raw_files.envi(folder / f"{name}.hdr", values, **known | fields), OF_ENVI


def hdf5(folder, values=SCENE, more=None, **attributes):
    """An HDF5 file and its descriptor. more: further arrays by name; attributes: of the cube."""
    content = {"cube": values, "wavelength": NM, **(more or {})}
    of_cube = {"_FillValue": np.int16(IGNORED), **attributes}
    return raw_files.hdf5(folder / "a.h5", content, of_cube), OF_HDF5


def tiff(folder, values=SCENE, items="", tags=()):
    """A TIFF with GDAL's items and its descriptor."""
    every = raw_files.gdal_items("wavelength", NM) + items
    path = raw_files.tiff(folder / "a.tif", values, every, ignored=IGNORED, tags=tags)
    return path, Descriptor(container="tiff", axes="cyx")


def matlab(folder, **content):
    """A MATLAB file with the scene and further variables, and its descriptor."""
    scipy.io.savemat(folder / "a.mat", {"cube": SCENE.transpose(1, 2, 0), **content})
    return folder / "a.mat", OF_MATLAB


def converted(path, descriptor):
    """The file as a cube beside it."""
    out = path.with_suffix(".zarr")
    convert_file(path, descriptor, CubeSettings(), out)
    return open_cube(out)
