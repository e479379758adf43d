"""Small raw files of every container: the one place where tests write them.

Cubes are (C, H, W) upright, as `RawImage.read` returns them; `axes` says in which order they are stored. Every
writer returns the path that a reader opens.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
import scipy.io
import tifffile

INTERLEAVES = {"bsq": "cyx", "bil": "ycx", "bip": "yxc"}
ENVI_CODES = {"u1": 1, "i2": 2, "i4": 3, "f4": 4, "f8": 5, "u2": 12, "u4": 13, "i8": 14, "u8": 15}
MAT73_SIGNATURE = b"MATLAB 7.3 MAT-file"
GDAL_METADATA, GDAL_NODATA = 42112, 42113  # private TIFF tags


def stored(cube, axes):
    """A (C, H, W) cube in the order of its stored axes, C-contiguous."""
    return np.ascontiguousarray(cube.transpose(["cyx".index(letter) for letter in axes]))


# ------------------------------------------------------------------------------------------------------ ENVI


def envi(header, cube, interleave="bsq", order="<", data=None, lines=None, **fields):
    """An ENVI header and its data file beside it.

    data   : path of the data file; None: the header's with .raw
    lines  : number of lines that the header claims; None: the true one
    fields : further fields; `_` in a name is a blank, sequences become lists in braces, None leaves one out
    """
    values = stored(cube, INTERLEAVES[interleave])
    data = header.with_suffix(".raw") if data is None else data
    values.astype(values.dtype.newbyteorder(order)).tofile(data)
    n_bands, height, width = cube.shape
    known = {
        "samples": width,
        "lines": height if lines is None else lines,
        "bands": n_bands,
        "data_type": ENVI_CODES[cube.dtype.str[1:]],
        "interleave": interleave,
        "byte_order": "<>".index(order),
    }
    return envi_header(header, **known | fields)


def envi_header(path, **fields):
    """The text alone, fields as of `envi`."""
    lines = [f"{name.replace('_', ' ')} = {_envi_value(value)}" for name, value in fields.items() if value is not None]
    path.write_text("\n".join(["ENVI", *lines, ""]))
    return path


def _envi_value(value):
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        return value
    return "{" + ", ".join(map(str, np.asarray(value).tolist())) + "}"


# ------------------------------------------------------------------------------------- MATLAB, HDF5, NetCDF, npz


def mat5(path, compressed=True, **content):
    """A MATLAB v5 file of arrays (as MATLAB has them), texts, dicts (structs) and object arrays (cells)."""
    scipy.io.savemat(path, content, do_compression=compressed)
    return path


def mat73(path, classes=None, **content):
    """A MATLAB v7.3 file: HDF5, which shows MATLAB's axes in reverse. classes: MATLAB class by variable."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in content.items():
            file[name] = np.asarray(array).transpose()
        for name, matlab_class in (classes or {}).items():
            file[name].attrs["MATLAB_class"] = np.bytes_(matlab_class)
    with path.open("r+b") as file:
        file.write(MAT73_SIGNATURE)
    return path


def hdf5(path, content, attributes=None, **options):
    """An HDF5 file.

    content    : arrays by name; the first is the cube
    attributes : of the cube
    options    : how the cube is stored (chunks, compression, shuffle, fletcher32)
    """
    with h5py.File(path, "w") as file:
        for k, (name, array) in enumerate(content.items()):
            file.create_dataset(name, data=array, **(options if k == 0 else {}))
        file[next(iter(content))].attrs.update(attributes or {})
    return path


def netcdf3(path, cube, axes="cyx", version=1, attributes=None, **vectors):
    """A NetCDF file of version 3 with the variable `cube` and vectors along its bands."""
    values = stored(cube, axes)
    dimensions = ["band" if letter == "c" else letter for letter in axes]
    with scipy.io.netcdf_file(path, "w", version=version) as file:
        for name, size in zip(dimensions, values.shape, strict=True):
            file.createDimension(name, size)
        file.createVariable("cube", values.dtype.str[1:], dimensions)[:] = values
        for name, value in (attributes or {}).items():
            setattr(file.variables["cube"], name, value)
        for name, vector in vectors.items():
            file.createVariable(name, "f8", ("band",))[:] = np.asarray(vector, float)
    return path


def npz(path, compressed=True, **content):
    """An archive of arrays."""
    (np.savez_compressed if compressed else np.savez)(path, **content)
    return path


def npy(path, array):
    """One array."""
    np.save(path, array)
    return path


# ------------------------------------------------------------------------------------------- TIFF and pictures


def tiff(path, array, items="", ignored=None, tags=(), **options):
    """A TIFF of an array (C, H, W), or (H, W, C) with planarconfig contig.

    items   : XML of GDAL's metadata items
    ignored : value that stands for no data
    """
    metadata = [(GDAL_METADATA, 2, 0, f"<GDALMetadata>{items}</GDALMetadata>", True)] if items else []
    nodata = [] if ignored is None else [(GDAL_NODATA, 2, 0, str(ignored), True)]
    extra = [*metadata, *nodata, *tags]
    described = {"metadata": None, "planarconfig": "separate", "extratags": extra} if extra else {}
    tifffile.imwrite(path, array, photometric="minisblack", **described | options)
    return path


def gdal_items(name, values, **attributes):
    """One GDAL item per band."""
    more = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return "".join(f'<Item name="{name}" sample="{k}"{more}>{value}</Item>' for k, value in enumerate(values))


def mosaic(path, cube, side):
    """A snapshot mosaic as PNG: band = row * side + column of the pattern. cube: (side * side, H, W) unsigned."""
    _, height, width = cube.shape
    pattern = cube.reshape(side, side, height, width)
    frame = pattern.transpose(2, 0, 3, 1).reshape(height * side, width * side)
    cv2.imwrite(str(path), np.ascontiguousarray(frame))
    return path


def band_pngs(folder, cube, name="b_{k:02d}.png"):
    """A folder with one PNG per band, numbered from 0 by k and from 1 by n. cube: (C, H, W) unsigned."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, band in enumerate(cube):
        cv2.imwrite(str(folder / name.format(k=k, n=k + 1)), np.ascontiguousarray(band))
    return folder


def hsd(path, cube_hw, mean, coefficients, scores, first_nm=500, step_nm=10.0, last_nm=610):
    """An HSD file of principal components.

    mean : (C,); coefficients : (n, C); scores : (H * W, n); the cube is scores @ coefficients + mean
    """
    n_components, n_bands = coefficients.shape
    head = struct.pack("<5ifi", *cube_hw, n_bands, n_components, first_nm, step_nm, last_nm)
    parts = (mean, coefficients, scores)
    path.write_bytes(head + b"".join(part.astype("<f4").tobytes() for part in parts))
    return path


def data_file(path):
    """The file that holds the values of what a writer returned: what a test damages."""
    path = Path(path)
    if path.is_dir():
        return sorted(path.iterdir())[len(list(path.iterdir())) // 2]
    return path.with_suffix(".raw") if path.suffix == ".hdr" else path
