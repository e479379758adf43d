"""Folders with one grey PNG per band."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from hvlabel.descriptors import Form, band_files
from hvlabel.errors import RawFileError
from hvlabel.readers.arrays import Packed
from hvlabel.readers.contract import Certainty, Look, StoredArray
from hvlabel.readers.guesses import describe_array
from hvlabel.readers.pictures import open_png, png_depth, read_grey

FEWEST_BANDS = 4  # a folder of fewer pictures is taken for other things
DEEPER = 257  # 255 of 8 bits is 65535 of 16


def read(path: Path, form: Form) -> StoredArray:
    """(C, H, W) cube of a folder. Among 16-bit bands an 8-bit one is scaled up by 257."""
    if not path.is_dir():
        raise RawFileError(f"{path}: not a folder, expected one with a PNG per band; name the folder")
    files = band_files(path)
    if not files:
        raise RawFileError(f"{path}: no PNG in this folder, expected one per band; name the folder that holds them")
    known_nm = form.known_wavelengths_nm()
    if known_nm is not None:  # before pictures are opened: a folder of thousands may be meant for something else
        n_expected = len(known_nm) + len(form.drop_bands)
        if n_expected != len(files):
            raise RawFileError(
                f"{path}: {len(files)} PNG files for {n_expected} bands; "
                "restore the missing files or take foreign ones away"
            )
    width, height, is_deep = _common_size(path, files)
    dtype = np.dtype(np.uint16 if is_deep else np.uint8)  # the deepest picture decides for all
    shape = (len(files), height, width)
    packed = Packed(shape, dtype, partial(_bands, files, is_deep))
    return StoredArray(packed, "cyx", tuple(files))


def look(path: Path) -> Look:
    """The files' numbers give the order of the bands, and nothing gives their centres."""
    stored = read(path, Form(container="band_png"))
    look = Look(knows_axes=True)
    remark = f"from {stored.files[0].name} to {stored.files[-1].name}"
    describe_array(look, stored, stored.array.shape, remark=remark)
    return look


def recognises(path: Path, head: bytes) -> Certainty:
    """By the number of PNGs in it."""
    return Certainty.MAGIC if len(band_files(path)) >= FEWEST_BANDS else Certainty.NONE


def _common_size(path: Path, files: Sequence[Path]) -> tuple[int, int, bool]:
    """(width, height, whether one of them has 16 bits) of pictures, from their headers."""
    sizes = set()
    is_deep = False
    for file in files:  # headers only
        with open_png(file) as picture:
            sizes.add(picture.size)
            is_deep |= png_depth(file) == 16
    if len(sizes) != 1:
        raise RawFileError(f"{path}: bands of different sizes {sorted(sizes)}; expected equal ones, copy them again")
    width, height = sizes.pop()
    return width, height, is_deep


def _bands(files: Sequence[Path], is_deep: bool) -> Iterator[np.ndarray]:
    """One band after another. is_deep: in 16 bits."""
    for file in files:
        band = read_grey(file)
        yield band.astype(np.uint16) * DEEPER if is_deep and band.dtype == np.uint8 else band
