"""TIFF stacks: one page per band, or all bands in one page, planar or interleaved."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.stored import HARMLESS_BYTES, FileArray, Packed, StoredArray, require_cube, require_plausible

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it complains about is told in our sentence
MAX_PAGE_BYTES = 256 << 20  # a compressed page is unpacked whole


def read(path: Path, form: Form) -> StoredArray:
    """The first image series of a TIFF file as a cube.

    Writers disagree on whether bands come first or last; where the form's band axis does not have as many bands as there
    are wavelengths but the other one does, the other order is taken.
    """
    import tifffile  # only here: it takes a sixth of a second to import, which every job would wait for

    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise RawFileError(f"{path}: no image in this TIFF file; copy it again")
        series = file.series[0]
        dtype = np.dtype(series.dtype)
        shape = require_cube(path, "the first image series", tuple(n for n in series.shape if n != 1), dtype)
        require_plausible(path, "the first image series", shape, dtype.itemsize, path.stat().st_size)
        axes = _axes(form, shape)
        if series.dataoffset is not None:
            order = dtype.newbyteorder(file.byteorder)
            end = series.dataoffset + int(np.prod(shape, dtype=object)) * dtype.itemsize
            if end > path.stat().st_size:
                raise RawFileError(
                    f"{path}: {path.stat().st_size} bytes, but its tags promise {end}; it is truncated, copy it again"
                )
            return StoredArray(FileArray(path, order, shape, series.dataoffset), axes, (path,))
        _require_sound_pages(path, series.pages)
        n_pages = len(series.pages)
        page_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize // n_pages
        if page_bytes > MAX_PAGE_BYTES:
            raise RawFileError(
                f"{path}: one compressed page unpacks to {page_bytes >> 20} MiB, more than {MAX_PAGE_BYTES >> 20}; write it again with one page per band"
            )

    def blocks() -> Iterator[np.ndarray]:
        with tifffile.TiffFile(path) as again:
            for page in again.series[0].pages:
                if page is None:
                    raise RawFileError(f"{path}: a page is missing; it is truncated, copy it again")
                yield page.asarray()

    return StoredArray(Packed(shape, dtype, blocks), axes, (path,))


def _require_sound_pages(path: Path, pages: Any) -> None:
    """Refuse pages whose pieces lie outside the file or are far larger than the page: tifffile would allocate them."""
    size = path.stat().st_size
    for page in pages:
        page = page and page.aspage()
        if page is None:
            raise RawFileError(f"{path}: a page is missing; it is truncated, copy it again")
        outside = any(o + n > size for o, n in zip(page.dataoffsets, page.databytecounts, strict=False))
        piece_bytes = math.prod(page.chunks) * (page.bitspersample // 8 or 1)
        if outside or piece_bytes > 4 * page.nbytes + HARMLESS_BYTES:
            raise RawFileError(
                f"{path}: the tags of a page promise data beyond the end of the file or beyond its size; it is damaged, copy it again"
            )


def _axes(form: Form, shape: tuple[int, int, int]) -> str:
    known_nm = form.known_wavelengths_nm()
    if known_nm is None:
        return form.axes
    n_bands = len(known_nm) + len(form.drop_bands)
    fitting = [axes for axes in (form.axes, "cyx", "yxc") if shape[axes.index("c")] == n_bands]
    return fitting[0] if fitting else form.axes
