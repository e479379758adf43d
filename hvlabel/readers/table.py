"""Container -> reader, one row each.

A new container format is one module in `formats/` that keeps `contract.py`, one row here, its name in
`hvlabel.descriptors.Container`, and what is read from it in docs/FORMATS.md. After that,
`hvlabel schema > workflow/schemas/config.schema.json`.
"""

from __future__ import annotations

from pathlib import Path

from hvlabel.descriptors import Container
from hvlabel.errors import RawFileError
from hvlabel.readers.contract import HEAD_BYTES, Certainty, Reader
from hvlabel.readers.formats import band_folder, envi, hdf5, hsd, matlab, mosaic, netcdf, npy, tiff

READERS: dict[Container, Reader] = {
    "envi": Reader(envi.read, envi.look, envi.recognises, (".hdr",)),
    "matlab": Reader(matlab.read, matlab.look, matlab.recognises, (".mat",)),
    "hdf5": Reader(hdf5.read, hdf5.look, hdf5.recognises, (".h5", ".hdf5", ".he5", ".hdf")),
    "netcdf": Reader(netcdf.read, netcdf.look, netcdf.recognises, (".nc", ".nc4", ".cdf")),
    "npy": Reader(npy.read, npy.look, npy.recognises, (".npy", ".npz")),
    "tiff": Reader(tiff.read, tiff.look, tiff.recognises, (".tif", ".tiff")),
    "hsd": Reader(hsd.read, hsd.look, hsd.recognises, (".hsd",)),
    "mosaic_png": Reader(mosaic.read, mosaic.look, mosaic.recognises),
    "band_png": Reader(band_folder.read, band_folder.look, band_folder.recognises, of_folders=True),
}
RAW_SUFFIXES = tuple(suffix for reader in READERS.values() for suffix in reader.suffixes)


def container_of(path: Path) -> Container:
    """Container of a raw file or folder, by its content; RawFileError if it is none that can be read."""
    is_folder = path.is_dir()
    head = b"" if is_folder else _head(path)  # read once, for all
    certainty = dict.fromkeys(READERS, Certainty.NONE)
    for container, reader in READERS.items():
        if reader.of_folders == is_folder:
            certainty[container] = reader.recognises(path, head)
    surest = max(READERS, key=lambda container: certainty[container])  # of equal ones the first
    if certainty[surest] is not Certainty.NONE:
        return surest
    if is_folder:
        raise RawFileError(
            f"{path}: a folder with fewer than {band_folder.FEWEST_BANDS} PNG files; "
            "name a raw file, or a folder with one PNG per band"
        )
    raise RawFileError(
        f"{path}: no known format; expected ENVI (a .hdr beside it), MATLAB, HDF5, NetCDF, npy, npz, TIFF, PNG, HSD "
        "or a folder of PNGs"
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise RawFileError(f"{path}: cannot read the file ({error.strerror}); check the path") from error
