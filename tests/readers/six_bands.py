"""One cube of six bands in every container, with its wavelengths where the container can hold them."""

import cv2
import numpy as np
import raw_files

from hvlabel.descriptors import Descriptor, WavelengthRange

CUBE = np.random.default_rng(0).integers(0, 4000, (6, 9, 13)).astype("uint16")  # (C, H, W), no two sizes equal
YXC = CUBE.transpose(1, 2, 0)
NM = [500.0, 510.0, 520.0, 530.0, 540.0, 550.0]
OF_ENVI = Descriptor(container="envi")


def envi(path, order="<", **fields):
    """An ENVI header as found in the wild: its list of wavelengths begins on a line of its own."""
    listed = fields.pop("wavelength", ", ".join(map(str, NM)))
    return raw_files.envi(path, CUBE, "bil", order, wavelength=f"{{\n{listed}}}", **fields)


def npy(folder):
    return raw_files.npy(folder / "a.npy", YXC), Descriptor(container="npy", wavelengths_nm=NM)


def npy_bands_first(folder):
    return raw_files.npy(folder / "a.npy", CUBE), Descriptor(container="npy", axes="cyx", wavelengths_nm=NM)


def npz(folder):
    path = raw_files.npz(folder / "a.npz", compressed=False, cube=YXC, nm=np.array(NM), name=np.array("x"))
    return path, Descriptor(container="npy", wavelength_variable="nm")


def mat5(folder):
    path = raw_files.mat5(folder / "a.mat", compressed=False, cube=YXC, nm=np.array(NM)[:, None], note="text")
    return path, Descriptor(container="matlab", wavelength_variable="nm")


def mat73(folder):
    path = raw_files.mat73(folder / "a.mat", cube=YXC, nm=np.array(NM)[:, None])
    return path, Descriptor(container="matlab", wavelength_variable="nm")


def hdf5(folder):
    path = raw_files.hdf5(folder / "a.h5", {"group/cube": CUBE.transpose(0, 2, 1)})
    grid = WavelengthRange(start_nm=500, stop_nm=550, count=6)
    return path, Descriptor(container="hdf5", variable="group/cube", axes="cxy", wavelengths_nm=grid)


def mosaic(folder):
    """Nine bands in a pattern of three by three, with a margin that no whole pattern fills."""
    path = raw_files.mosaic(folder / "a.png", np.concatenate([CUBE, CUBE[:3]]), side=3)
    frame = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), np.pad(frame, ((0, 2), (0, 1))))
    centres_nm = [*NM, 560, 570, 580]
    return path, Descriptor(container="mosaic_png", mosaic_px=3, wavelengths_nm=centres_nm)


def bil(folder):
    return envi(folder / "a.hdr", byte_order=None), OF_ENVI


WRITERS = (npy, npy_bands_first, npz, mat5, mat73, hdf5, mosaic, bil)
