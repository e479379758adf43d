"""Pictures as arrays: grey PNGs that are raw data, RGB companions, and pictures that lie inside a raw file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from hvlabel.errors import RawFileError

PNG_DEPTH_AT = 24  # signature 8 bytes, then the chunk IHDR: length 4, name 4, width 4, height 4, bits per sample
ONE_IS_WHITE_UP_TO = 2.0  # shares of white may overshoot a little; no counts end so low


def read_grey(path: Path) -> np.ndarray:
    """(H, W) uint8 or uint16 of a grey PNG; a colour PNG passes if its channels are equal."""
    with open_png(path) as picture:
        # of a palette the values are colours' numbers
        decoded = picture.convert("RGB") if picture.mode == "P" else picture
        values = np.asarray(decoded)
    if values.ndim == 3 and values.dtype == np.uint8 and png_depth(path) == 16:
        deep = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)  # Pillow cuts 16-bit colours to 8
        if deep is None:
            raise RawFileError(f"{path}: not a readable PNG; it is damaged, copy it again")
        values = np.asarray(deep)
    if values.ndim == 3:
        has_colours = values.shape[2] in (3, 4)  # else grey with alpha
        colours = values[..., :3] if has_colours else values[..., :1]
        if (colours != colours[..., :1]).any():
            raise RawFileError(
                f"{path}: a colour picture, expected a grey one; this may be a false-colour companion: "
                "name the raw frame"
            )
        values = colours[..., 0]
    if values.dtype == np.bool_:
        raise RawFileError(f"{path}: one bit per pixel, expected 8 or 16; name another file")
    dtype = np.uint16 if values.dtype.itemsize > 1 else np.uint8  # deep greys may come as int32
    return values.astype(dtype, copy=False)


def open_png(path: Path) -> AbstractContextManager[PIL.Image.Image]:
    """A PNG whose values are not decoded yet; other formats are refused, whatever the file is called."""
    return _open(path, formats=["PNG"])


@contextmanager
def _open(path: Path, formats: list[str] | None = None) -> Iterator[PIL.Image.Image]:
    """A picture of any of these formats, none: of any."""
    with _Bounded(path) as file, PIL.Image.open(file, formats=formats) as picture:
        yield picture


class _Bounded(io.BufferedReader):
    """A file that is never asked for more than it holds.

    Python takes memory for all that is asked for, and a damaged length of a chunk may ask for gigabytes.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._n_bytes = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._n_bytes - self.tell())
        if size is None or size < 0:
            return super().read(left)
        return super().read(min(size, left))


def png_depth(path: Path) -> int:
    """Bits per sample of a PNG, from its header."""
    with path.open("rb") as file:
        return file.read(PNG_DEPTH_AT + 1)[PNG_DEPTH_AT]


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 of an RGB companion of any picture format."""
    try:
        with _open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise RawFileError(
            f"{path}: the RGB companion is missing or damaged ({str(error)[:80]}); "
            "restore it or drop descriptor.rgb_companion"
        ) from error


def is_colour(path: Path) -> bool:
    """Whether a file is a picture with colours; False for whatever cannot be opened."""
    try:
        with _open(path) as picture:
            return picture.mode in ("RGB", "RGBA", "P", "YCbCr")
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return False


def fit(rgb: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """A picture resized to the cube's size if it differs."""
    if rgb.shape[:2] == (height_px, width_px):
        return np.ascontiguousarray(rgb)
    shrinks = rgb.shape[0] > height_px
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR  # areas: no pixel of the larger picture is left out
    return cv2.resize(rgb, (width_px, height_px), interpolation=interpolation)


def in_8_bits(values: np.ndarray) -> np.ndarray:
    """uint8 of a picture in any type, the same shape.

    Integers are shifted until the largest fits 8 bits. Floats whose largest is up to 2 are shares of white, up to 255
    they are taken as they are; larger ones are divided by the largest.
    """
    if values.dtype.kind in "ui":
        shift = max(0, int(values.max()).bit_length() - 8)
        shifted = np.clip(values, 0, None) >> shift
        return np.ascontiguousarray(shifted).astype(np.uint8)
    clean = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
    largest = float(clean.max())
    white = 1.0 if largest <= ONE_IS_WHITE_UP_TO else max(largest, 255.0)
    levels = clean * (255 / white) + 0.5  # the type cuts off: a half more rounds
    return np.clip(levels, 0, 255).astype(np.uint8)
