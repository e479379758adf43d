"""One raw image of any container as a lazy, upright (C, H, W) cube with known wavelengths."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import dask.array as da
import numpy as np
import PIL.Image

from hvlabel.config import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers import envi, hdf5, matlab, mosaic_png, npy
from hvlabel.readers.stored import StoredArray

READER_VERSION = 1
READERS: dict[str, Callable[[Path, Descriptor], StoredArray]] = {
    "envi": envi.read,
    "hdf5": hdf5.read,
    "matlab": matlab.read,
    "mosaic_png": mosaic_png.read,
    "npy": npy.read,
}


@dataclass(frozen=True)
class RawImage:
    """One raw image.

    array          : (C, H, W) dask array, upright, stored values, bands in file order
    wavelengths_nm : (C,) band centres in file order, nm
    scale          : stored value times scale = physical value, in `unit`
    files          : every file the values came from
    """

    array: da.Array
    wavelengths_nm: tuple[float, ...]
    scale: float
    unit: str
    files: tuple[Path, ...]


def open_raw(path: Path, descriptor: Descriptor) -> RawImage:
    """The image of a raw file; RawFileError says in one sentence what is wrong with it.

    Wavelengths are the descriptor's if it names some, else the file's; their number must equal the number of bands.
    """
    if not path.is_file():
        raise RawFileError(f"{path}: no such file; run the scan again or restore it")
    try:
        stored = READERS[descriptor.container](path, descriptor)
    except RawFileError:
        raise
    except Exception as error:  # libraries raise many kinds on damaged files; each means the same to the user
        raise RawFileError(
            f"{path}: cannot be read as {descriptor.container} ({type(error).__name__}: {' '.join(str(error).split())[:120]}); "
            "it is damaged, cut off or of another format: copy it again or correct descriptor.container"
        ) from error
    axes = stored.axes or descriptor.axes
    array = da.transpose(stored.array, [axes.index(a) for a in "cyx"])
    if descriptor.rot90:
        array = da.rot90(array, k=descriptor.rot90, axes=(1, 2))
    wavelengths_nm = descriptor.known_wavelengths_nm() or stored.wavelengths_nm
    n_bands = array.shape[0]
    if wavelengths_nm is None:
        raise RawFileError(
            f"{path}: the file names no wavelengths; give the {n_bands} band centres as descriptor.wavelengths_nm"
        )
    if len(wavelengths_nm) != n_bands:
        raise RawFileError(
            f"{path}: {len(wavelengths_nm)} wavelengths for {n_bands} bands (shape band, row, column {array.shape}); "
            "they must be equal: check descriptor.axes and wavelengths_nm"
        )
    if not all(np.isfinite(w) and w > 0 for w in wavelengths_nm):
        raise RawFileError(
            f"{path}: wavelengths must be positive numbers in nm; check the header or give descriptor.wavelengths_nm"
        )
    return RawImage(
        array=array,
        wavelengths_nm=tuple(float(w) for w in wavelengths_nm),
        scale=descriptor.scale or stored.scale or 1.0,
        unit=descriptor.unit or stored.unit or "counts",
        files=stored.files,
    )


def read_rgb(path: Path, height_px: int, width_px: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB companion, resized to the cube's size if it differs."""
    try:
        with PIL.Image.open(path) as picture:
            image = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise RawFileError(
            f"{path}: the RGB companion is missing or damaged ({str(error)[:80]}); restore it or drop descriptor.rgb_companion"
        ) from error
    if image.shape[:2] != (height_px, width_px):
        shrinks = image.shape[0] > height_px
        image = cv2.resize(image, (width_px, height_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.ascontiguousarray(image)


def raw_sha256(files: tuple[Path, ...]) -> str:
    """sha256 over the contents of the files in order: the identity of a raw image."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
