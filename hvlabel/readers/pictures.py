"""Pictures as raw data: PNG mosaic frames, folders of one PNG per band, and RGB companions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from hvlabel.descriptors import Form, band_files
from hvlabel.errors import RawFileError
from hvlabel.readers.stored import MemoryArray, Packed, StoredArray


def read_mosaic(path: Path, form: Form) -> StoredArray:
    """(m*m, H/m, W/m) cube of a snapshot mosaic frame; band = row in the pattern * m + column. No interpolation."""
    side = form.mosaic_px
    assert side is not None  # the form's validator
    frame = read_grey(path)
    rows, cols = frame.shape[0] // side, frame.shape[1] // side
    if min(rows, cols) < 1:
        raise RawFileError(
            f"{path}: {frame.shape[1]}x{frame.shape[0]} px is smaller than one {side}x{side} pattern; check descriptor.mosaic_px"
        )
    tiles = frame[: rows * side, : cols * side].reshape(rows, side, cols, side)
    cube = tiles.transpose(1, 3, 0, 2).reshape(side * side, rows, cols)
    return StoredArray(MemoryArray(cube), "cyx", (path,))


def read_bands(path: Path, form: Form) -> StoredArray:
    """(C, H, W) cube of a folder with one grey PNG per band. Among 16-bit bands an 8-bit one is scaled up by 257."""
    if not path.is_dir():
        raise RawFileError(f"{path}: not a folder, expected one with a PNG per band; name the folder")
    files = band_files(path)
    if not files:
        raise RawFileError(f"{path}: no PNG in this folder, expected one per band; name the folder that holds them")
    known_nm = form.known_wavelengths_nm()
    if known_nm is not None and len(known_nm) + len(form.drop_bands) != len(files):
        raise RawFileError(
            f"{path}: {len(files)} PNG files for {len(known_nm) + len(form.drop_bands)} bands; restore the missing files or take foreign ones away"
        )
    sizes = set()
    deep = False
    for file in files:
        with _open(file) as picture:
            sizes.add(picture.size)
            deep |= _depth(file) == 16
    if len(sizes) != 1:
        raise RawFileError(f"{path}: bands of different sizes {sorted(sizes)}; expected equal ones, copy them again")
    width, height = sizes.pop()

    def blocks() -> Iterator[np.ndarray]:
        for file in files:
            band = read_grey(file)
            yield band.astype(np.uint16) * 257 if deep and band.dtype == np.uint8 else band

    dtype = np.dtype(np.uint16 if deep else np.uint8)
    return StoredArray(Packed((len(files), height, width), dtype, blocks), "cyx", tuple(files))


def read_grey(path: Path) -> np.ndarray:
    """(H, W) uint8 or uint16 of a grey PNG; a colour PNG passes if its channels are equal."""
    with _open(path) as picture:
        values = np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)
    if values.ndim == 3 and values.dtype == np.uint8 and _depth(path) == 16:
        deep = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)  # Pillow cuts 16-bit colours to 8
        if deep is None:
            raise RawFileError(f"{path}: not a readable PNG; it is damaged, copy it again")
        values = np.asarray(deep)
    if values.ndim == 3:
        colours = values[..., :3] if values.shape[2] in (3, 4) else values[..., :1]
        if (colours != colours[..., :1]).any():
            raise RawFileError(
                f"{path}: a colour picture, expected a grey one; this may be a false-colour companion: name the raw frame"
            )
        values = colours[..., 0]
    if values.dtype == np.bool_:
        raise RawFileError(f"{path}: one bit per pixel, expected 8 or 16; name another file")
    return values.astype(np.uint16 if values.dtype.itemsize > 1 else np.uint8, copy=False)


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 of an RGB companion of any picture format."""
    try:
        with PIL.Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise RawFileError(
            f"{path}: the RGB companion is missing or damaged ({str(error)[:80]}); restore it or drop descriptor.rgb_companion"
        ) from error


def fit(rgb: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """A picture resized to the cube's size if it differs."""
    if rgb.shape[:2] == (height_px, width_px):
        return np.ascontiguousarray(rgb)
    shrinks = rgb.shape[0] > height_px
    return cv2.resize(rgb, (width_px, height_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _depth(path: Path) -> int:
    """Bits per sample of a PNG, from its header."""
    with path.open("rb") as file:
        return file.read(25)[24]


def _open(path: Path) -> PIL.Image.Image:
    return PIL.Image.open(path, formats=["PNG"])
