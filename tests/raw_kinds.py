"""One way per container and packing to write a small raw file: the table that the laws of the readers run over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import raw_files as raw
from raw_files import stored

from hvlabel.descriptors import Descriptor

EVERY_AXES = tuple("".join(letters) for letters in permutations("yxc"))
WHOLE = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")
FLOATS = ("f2", "f4", "f8")


@dataclass(frozen=True)
class Kind:
    """How a cube is written, and what of it this container can hold.

    write   : (path, (C, H, W) cube, axes, byte order) -> the path that a reader opens
    axes    : orders in which the container can hold the axes
    orders  : byte orders, "<" and ">"
    side    : of a mosaic's pattern, which fixes the number of bands
    checked : whether the format notices a flipped bit among its values
    computed : whether values are computed from what is stored
    least_bands : a TIFF of one band is a picture, not a cube
    fields  : of the descriptor
    """

    container: str
    file_name: str
    write: Callable[[Path, np.ndarray, str, str], Path]
    dtypes: tuple[str, ...] = WHOLE + FLOATS
    axes: tuple[str, ...] = EVERY_AXES
    orders: str = "<>"
    side: int | None = None
    checked: bool = False
    computed: bool = False
    least_bands: int = 1
    fields: dict[str, Any] = field(default_factory=dict)

    def descriptor(self, n_bands: int, **more: Any) -> Descriptor:
        """The descriptor of a cube with so many bands kept."""
        centres_nm = [500.0 + 10 * k for k in range(n_bands)]
        return Descriptor(container=self.container, **{"wavelengths_nm": centres_nm, **self.fields, **more})


def ordered(cube, axes, order):
    """A cube as stored, in a byte order."""
    values = stored(cube, axes)
    return values.astype(values.dtype.newbyteorder(order))


def piece(shape):
    """A chunk smaller than the array on every axis that allows it."""
    return tuple(max(1, n // 2 + 1) for n in shape)


def _npy(path, cube, axes, order):
    return raw.npy(path, ordered(cube, axes, order))


def _npz(path, cube, axes, order):
    return raw.npz(path, cube=ordered(cube, axes, order), other=np.arange(5))


def _npz_plain(path, cube, axes, order):
    return raw.npz(path, compressed=False, cube=ordered(cube, axes, order))


def _mat5(path, cube, axes, order):
    return raw.mat5(path, cube=stored(cube, axes), t=np.ones((3, 2)))


def _mat5_plain(path, cube, axes, order):
    return raw.mat5(path, compressed=False, cube=stored(cube, axes))


def _mat73(path, cube, axes, order):
    return raw.mat73(path, cube=ordered(cube, axes, order))


def _hdf5(path, cube, axes, order):
    return raw.hdf5(path, {"group/cube": ordered(cube, axes, order)})


def _hdf5_gzip(path, cube, axes, order):
    values = ordered(cube, axes, order)
    return raw.hdf5(path, {"cube": values}, chunks=piece(values.shape), compression="gzip", shuffle=True)


def _hdf5_lzf(path, cube, axes, order):
    values = ordered(cube, axes, order)
    return raw.hdf5(path, {"cube": values}, chunks=piece(values.shape), compression="lzf", fletcher32=True)


def _netcdf3(path, cube, axes, order):
    return raw.netcdf3(path, cube, axes)


def _netcdf4(path, cube, axes, order):
    return raw.hdf5(path, {"cube": ordered(cube, axes, order)})


def _envi(interleave):
    return lambda path, cube, axes, order: raw.envi(path, cube, interleave, order)


def _tiff(**options):
    def write(path, cube, axes, order):
        planar = "separate" if axes == "cyx" else "contig"
        return raw.tiff(path, stored(cube, axes), planarconfig=planar, byteorder=order, **options)

    return write


def _mosaic(path, cube, axes, order):
    return raw.mosaic(path, cube, side=3)


def _bands(path, cube, axes, order):
    return raw.band_pngs(path, cube)


def _hsd(path, cube, axes, order):
    """As many components as bands, each of them one band: the cube comes back exactly."""
    n_bands, height, width = cube.shape
    return raw.hsd(path, (height, width), np.zeros(n_bands), np.eye(n_bands), stored(cube, "yxc").reshape(-1, n_bands))


MATLAB_TYPES = (*WHOLE, "f4", "f8")
NETCDF_TYPES = ("i1", "i2", "i4", "f4", "f8")
ENVI = {"dtypes": tuple(raw.ENVI_CODES), "axes": ("yxc",)}
MATLAB = {"dtypes": MATLAB_TYPES, "orders": "<", "fields": {"variable": "cube"}}
PICTURE = {"dtypes": ("u1", "u2"), "axes": ("yxc",), "orders": "<"}
TIFF = {"axes": ("cyx", "yxc"), "least_bands": 2}

KINDS = {
    "npy": Kind("npy", "a.npy", _npy),
    "npz": Kind("npy", "a.npz", _npz, checked=True, fields={"variable": "cube"}),
    "npz plain": Kind("npy", "a.npz", _npz_plain, checked=True),
    "mat5": Kind("matlab", "a.mat", _mat5, checked=True, **MATLAB),
    "mat5 plain": Kind("matlab", "a.mat", _mat5_plain, **MATLAB),
    "mat73": Kind("matlab", "a.mat", _mat73, fields={"variable": "cube"}),
    "hdf5": Kind("hdf5", "a.h5", _hdf5),
    "hdf5 gzip": Kind("hdf5", "a.h5", _hdf5_gzip),
    "hdf5 lzf": Kind("hdf5", "a.h5", _hdf5_lzf, checked=True),
    "netcdf3": Kind("netcdf", "a.nc", _netcdf3, dtypes=NETCDF_TYPES, orders=">"),
    "netcdf4": Kind("netcdf", "a.nc", _netcdf4),
    "envi bsq": Kind("envi", "a.hdr", _envi("bsq"), **ENVI),
    "envi bil": Kind("envi", "a.hdr", _envi("bil"), **ENVI),
    "envi bip": Kind("envi", "a.hdr", _envi("bip"), **ENVI),
    "tiff": Kind("tiff", "a.tif", _tiff(), **TIFF),
    "tiff zlib": Kind("tiff", "a.tif", _tiff(compression="zlib"), **TIFF),
    "mosaic": Kind("mosaic_png", "a.png", _mosaic, side=3, checked=True, fields={"mosaic_px": 3}, **PICTURE),
    "bands": Kind("band_png", "scene", _bands, checked=True, **PICTURE),
    "hsd": Kind("hsd", "a.hsd", _hsd, ("f4",), ("yxc",), "<", computed=True),
}
