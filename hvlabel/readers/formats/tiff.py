"""TIFF stacks: one page per band, or all bands in one page, planar or interleaved; with what GDAL writes too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.arrays import FileArray, Packed
from hvlabel.readers.contract import Certainty, Look, Stored, StoredArray
from hvlabel.readers.formats.gdal_items import GdalItems, number_of, parse_items
from hvlabel.readers.formats.tiff_pages import Stack, require_sound_pages, stack_of
from hvlabel.readers.gains import NO_GAINS, Gains, gains_of
from hvlabel.readers.georeference import Georeference, from_geotiff
from hvlabel.readers.guesses import look_at_array
from hvlabel.readers.sizes import require_plausible
from hvlabel.wavelengths import Centres

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it complains about is told in our sentence
MAX_PAGE_BYTES = 256 << 20  # a compressed page is unpacked whole
# byte order, then 42, of BigTIFF 43
MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# private tags of GDAL, and those of GeoTIFF 1.1
GDAL_METADATA, GDAL_NODATA = 42112, 42113
PIXEL_SCALE, TIEPOINT, TRANSFORMATION, GEO_KEYS = 33550, 33922, 34264, 34735


def read(path: Path, form: Form) -> StoredArray:
    """The cube of a TIFF file, see tiff_pages.stack_of.

    Writers disagree on whether bands come first or last; where the form's band axis does not have as many bands as
    there are wavelengths but the other one does, the other order is taken.
    """
    import tifffile  # only here: it takes a sixth of a second to import, which every job would wait for

    with tifffile.TiffFile(path) as file:
        stack = stack_of(path, file)
        # a page of a few bytes may unpack to any size
        require_plausible(path, "the image", stack.shape, stack.dtype.itemsize, path.stat().st_size)
        page = stack.pages[0].aspage()
        items = parse_items(_tag(page, GDAL_METADATA))
        centres = items.centres()
        axes = _axes(form, stack.shape, centres)
        n_bands = stack.shape[axes.index("c")]
        gains = _gains(path, form, items, n_bands)
        # a band that the list leaves out is good
        good = items.of_bands("bbl", n_bands, 1.0) if form.bad_bands == "drop" else None
        ignore_value = number_of(_tag(page, GDAL_NODATA))  # a text
        fwhm, fwhm_unit = items.widths(n_bands)
        is_per_band = centres is not None and len(centres.values) == n_bands
        georeference = _georeference(page)
        array = _array(path, file, stack)
    return StoredArray(
        array=array,
        axes=axes,
        files=(path,),
        centres=centres if is_per_band else None,
        fwhm=fwhm,
        fwhm_unit=fwhm_unit,
        scale=gains.scale,
        gain=gains.gain,
        offset=gains.offset,
        good_bands=None if good is None else np.asarray(good) > 0,
        ignore_values=() if ignore_value is None else (ignore_value,),
        georeference=georeference,
        swapped=axes.index("x") < axes.index("y"),
    )


def look(path: Path) -> Look:
    """A TIFF file does not say which axis counts the bands."""
    stored = read(path, Form(container="tiff"))
    return look_at_array(stored, knows_axes=False)


def recognises(path: Path, head: bytes) -> Certainty:
    """By its magic number."""
    return Certainty.MAGIC if head.startswith(MAGICS) else Certainty.NONE


def _array(path: Path, file: Any, stack: Stack) -> Stored:
    """The stack's values: as they lie in the file, or page by page where they are compressed or lie here and there."""
    file_bytes = path.stat().st_size
    if stack.offset is not None:
        end = stack.offset + stack.n_bytes
        if end > file_bytes:
            raise RawFileError(
                f"{path}: {file_bytes} bytes, but its tags promise {end}; it is truncated, copy it again"
            )
        stored = stack.dtype.newbyteorder(file.byteorder)
        return FileArray(path, stored, stack.shape, stack.offset)
    require_sound_pages(path, stack.pages)
    page_bytes = stack.n_bytes // len(stack.pages)
    if page_bytes > MAX_PAGE_BYTES:
        raise RawFileError(
            f"{path}: one compressed page unpacks to {page_bytes >> 20} MiB, more than {MAX_PAGE_BYTES >> 20}; "
            "write it again with one page per band"
        )
    indices = [page.index for page in stack.pages]  # pages themselves belong to the open file
    return Packed(stack.shape, stack.dtype, partial(_pages, path, indices))


def _pages(path: Path, indices: list[int]) -> Iterator[np.ndarray]:
    """Values of some pages, one after another."""
    import tifffile  # see read

    with tifffile.TiffFile(path) as file:
        for index in indices:
            yield file.pages[index].asarray()


def _axes(form: Form, shape: tuple[int, int, int], centres: Centres | None) -> str:
    """The form's axes, or bands first or last where that gives as many bands as there are centres."""
    counts = []
    known_nm = form.known_wavelengths_nm()
    if known_nm is not None:
        counts.append(len(known_nm) + len(form.drop_bands))  # centres are of the bands that are kept
    if centres is not None:
        counts.append(len(centres.values))
    # the form's order first, so that it stays where it fits
    for n_bands in counts:
        for axes in (form.axes, "cyx", "yxc"):
            if shape[axes.index("c")] == n_bands:
                return axes
    return form.axes


def _gains(path: Path, form: Form, items: GdalItems, n_bands: int) -> Gains:
    """Of the items, unless the form says what the values mean."""
    if form.scale is not None:
        return NO_GAINS
    gain = items.of_bands("scale", n_bands, 1.0)
    offset = items.of_bands("offset", n_bands, 0.0)
    if gain is None and offset is None:
        return NO_GAINS
    return gains_of(path, gain, offset, n_bands)


def _georeference(page: Any) -> Georeference | None:
    values = [_tag(page, code) for code in (PIXEL_SCALE, TIEPOINT, TRANSFORMATION, GEO_KEYS)]
    scale, tiepoint, matrix, keys = (v if isinstance(v, tuple) else None for v in values)  # damaged tags are no tuples
    return from_geotiff(scale, tiepoint, matrix, keys)


def _tag(page: Any, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value
