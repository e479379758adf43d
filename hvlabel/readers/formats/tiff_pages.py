"""Which of a TIFF file's images and pages are the cube."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.errors import RawFileError
from hvlabel.readers.sizes import HARMLESS_BYTES, n_values, require_cube, squeezed

SHOWN = 8  # images in a message


@dataclass(frozen=True)
class Stack:
    """The pages that make up the cube.

    shape  : in stored order
    offset : of the values in the file if they lie there in one piece, else None
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    pages: Sequence[Any]
    offset: int | None

    @property
    def n_bytes(self) -> int:
        """Of all values."""
        return n_values(self.shape) * self.dtype.itemsize


def stack_of(path: Path, file: Any) -> Stack:
    """The image with three axes, of several the largest; or equal planes, stacked. file: an open tifffile.TiffFile.

    A preview or a mask may lie beside the bands: what holds the most values is the image.
    """
    series = list(file.series)
    if not series:
        raise RawFileError(f"{path}: no image in this TIFF file; copy it again")
    # pages of one band each are one series for some writers, and a series each for others
    planes = _equal_planes(series)
    cubes = [s for s in series if _is_cube(s)]
    size_of_planes = _total_size(planes)
    size_of_cube = max(map(_size, cubes), default=0)
    if size_of_planes > size_of_cube:
        return _stack_of_planes(path, planes)
    if not cubes:
        shapes = ", ".join(_sizes(s) for s in series[:SHOWN])
        raise RawFileError(
            f"{path}: images of {shapes}, expected one with three axes (row, column, band) or equal pages of two; "
            "name another file"
        )
    largest = [s for s in cubes if _size(s) == size_of_cube]
    if len(largest) > 1:  # nothing tells them apart
        raise RawFileError(
            f"{path}: {len(largest)} images of {_sizes(largest[0])}, expected one; keep each in a file of its own"
        )
    cube = largest[0]
    dtype = np.dtype(cube.dtype)
    shape = require_cube(path, "the image series", squeezed(tuple(cube.shape)), dtype)
    pages = [_present(path, page) for page in cube.pages]
    return Stack(shape, dtype, pages, cube.dataoffset)


def require_sound_pages(path: Path, pages: Sequence[Any]) -> None:
    """Refuse pages whose pieces lie outside the file or are far larger than the page: tifffile would allocate them."""
    file_bytes = path.stat().st_size
    for lazy_page in pages:
        page = lazy_page.aspage()
        pieces = zip(page.dataoffsets, page.databytecounts, strict=False)
        is_outside = any(offset + n_bytes > file_bytes for offset, n_bytes in pieces)
        value_bytes = page.bitspersample // 8 or 1  # damaged tags are no numbers
        piece_bytes = math.prod(page.chunks) * value_bytes
        if is_outside or piece_bytes > 4 * page.nbytes + HARMLESS_BYTES:
            raise RawFileError(
                f"{path}: the tags of a page promise data beyond the end of the file or beyond its size; "
                "it is damaged, copy it again"
            )


def _equal_planes(series: Sequence[Any]) -> list[Any]:
    """Of the images that are one plane those of one size and type that together hold the most values."""
    groups: dict[tuple[tuple[int, int], str], list[Any]] = defaultdict(list)
    for image in series:
        plane = _plane(image)
        if plane is not None:
            groups[plane, str(image.dtype)].append(image)
    return max(groups.values(), key=_total_size, default=[])


def _stack_of_planes(path: Path, planes: Sequence[Any]) -> Stack:
    dtype = np.dtype(planes[0].dtype)
    pages = [_present(path, page) for plane in planes for page in plane.pages]
    plane = _plane(planes[0]) or ()
    shape = require_cube(path, "its pages", (len(planes), *plane), dtype)
    offset = planes[0].dataoffset if len(planes) == 1 else None  # several lie anywhere
    return Stack(shape, dtype, pages, offset)


def _is_cube(series: Any) -> bool:
    shape = squeezed(tuple(series.shape))
    return _plane(series) is None and len(shape) == 3 and series.dtype is not None


def _plane(series: Any) -> tuple[int, int] | None:
    """(rows, columns) of a series that is one plane, however many axes of length one go before; None for others."""
    shape = tuple(int(n) for n in series.shape)
    is_single = all(n == 1 for n in shape[:-2])
    is_plane = series.axes.endswith("YX") and is_single
    return (shape[-2], shape[-1]) if is_plane else None


def _total_size(series: Sequence[Any]) -> int:
    return sum(map(_size, series))


def _size(series: Any) -> int:
    return n_values(series.shape)


def _sizes(series: Any) -> str:
    return "x".join(map(str, series.shape))


def _present(path: Path, page: Any) -> Any:
    if page is None:
        raise RawFileError(f"{path}: a page is missing; it is truncated, copy it again")
    return page
