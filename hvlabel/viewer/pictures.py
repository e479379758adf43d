"""Pictures of an image as a page holds them, and the triplets of bands that are worth a look."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from hvlabel.branches.material import composites
from hvlabel.cube import Cube
from hvlabel.masks import Mask

MOST_SIDE_PX = 1024  # of a picture; larger images are reduced by a whole number
MOST_BYTES = 900_000  # of all pictures together; what takes more than its part as PNG is a JPEG
MOST_BYTES_OF_ONE = 260_000
JPEG_QUALITIES = (88, 75, 60, 40)  # the first one that fits
MOST_TRIPLETS = 24  # frames of the sequence branch to choose from
DEFAULT_COMPOSITES = 2  # as the material branch makes them where it runs on regions


class Picture(NamedTuple):
    """A picture of the whole image. source: a data address."""

    title: str
    source: str


class Triplet(NamedTuple):
    """Three bands to be seen as red, green and blue. bands: file indices."""

    title: str
    bands: tuple[int, int, int]


def view_stride(height: int, width: int) -> int:
    """By which whole number an image is reduced to be shown."""
    return max(1, -(-max(height, width) // MOST_SIDE_PX))


def pictures_of(cube: Cube, values: np.ndarray, n_composites: int = DEFAULT_COMPOSITES) -> list[Picture]:
    """The RGB rendering, and the composites of whitened components that the material branch sees.

    values : (C, H, W) float32 of the live bands
    """
    titled = [("RGB rendering", cube.rgb)]
    for components, picture in composites(values, n_composites, cube.valid):
        named = "-".join(map(str, dict.fromkeys(components)))  # of one component, all three are the same
        titled.append((f"whitened components {named}", picture))
    stride = view_stride(cube.height_px, cube.width_px)
    room_bytes = min(MOST_BYTES_OF_ONE, MOST_BYTES // len(titled))
    return [Picture(title, _address(picture, stride, room_bytes)) for title, picture in titled]


def triplets_of(masks: Sequence[Mask]) -> list[Triplet]:
    """The false-colour frames that masks of the sequence branch were found on."""
    frames = {mask.frame: mask.bands for mask in masks if mask.frame is not None and mask.bands}
    triplets = [Triplet(f"frame {k}", bands) for k, bands in sorted(frames.items()) if bands]
    return triplets[:MOST_TRIPLETS]


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """JPEG file content of an (H, W, 3) uint8 RGB picture."""
    bgr = picture[:, :, ::-1]  # OpenCV writes blue first
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(content.tobytes())


def _address(picture: np.ndarray, stride: int, room_bytes: int) -> str:
    """Data address of an (H, W, 3) uint8 picture, reduced; without loss if there is room."""
    height, width = picture.shape[:2]
    if stride > 1:  # rounded up, as the page counts its pixels
        size = (-(-width // stride), -(-height // stride))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, as_png = cv2.imencode(".png", picture[:, :, ::-1])
    kind, content = "png", bytes(as_png.tobytes())
    for quality in JPEG_QUALITIES:
        if len(content) <= room_bytes:
            break
        kind, content = "jpeg", jpeg(picture, quality)
    text = base64.b64encode(content).decode()
    return f"data:image/{kind};base64,{text}"
