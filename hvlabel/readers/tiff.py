"""TIFF stacks: one page per band, or all bands in one page, planar or interleaved; with what GDAL writes beside them."""

from __future__ import annotations

import logging
import math
import re
import xml.etree.ElementTree
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.georeference import Georeference, from_geotiff
from hvlabel.readers.stored import (
    HARMLESS_BYTES,
    FileArray,
    Gains,
    Packed,
    StoredArray,
    gains_of,
    require_cube,
    require_plausible,
    squeezed,
)
from hvlabel.wavelengths import Centres, is_no_length

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it complains about is told in our sentence
MAX_PAGE_BYTES = 256 << 20  # a compressed page is unpacked whole
# private tags of GDAL, and those of GeoTIFF 1.1
GDAL_METADATA, GDAL_NODATA = 42112, 42113
PIXEL_SCALE, TIEPOINT, TRANSFORMATION, GEO_KEYS = 33550, 33922, 34264, 34735
MAX_METADATA_CHARS = 4 << 20
CENTRE_ITEMS = {"wavelength": None, "wavelength_nm": "nm", "central_wavelength_um": "um", "central_wavelength_nm": "nm"}
WIDTH_ITEMS = {"fwhm": None, "fwhm_nm": "nm", "fwhm_um": "um"}


@dataclass(frozen=True)
class _Stack:
    """The pages that make up the cube. shape: in stored order; offset: of contiguous values, or None."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    pages: Sequence[Any]
    offset: int | None


@dataclass
class _BandFacts:
    """What GDAL's metadata says, by item name and then by band; whole: items of the whole image."""

    by_band: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    whole: dict[str, str] = field(default_factory=dict)


def read(path: Path, form: Form) -> StoredArray:
    """The cube of a TIFF file: the image series with three axes, of several the largest; or equal pages with two, stacked.

    Writers disagree on whether bands come first or last; where the form's band axis does not have as many bands as there
    are wavelengths but the other one does, the other order is taken.
    """
    import tifffile  # only here: it takes a sixth of a second to import, which every job would wait for

    with tifffile.TiffFile(path) as file:
        stack = _stack(path, file)
        require_plausible(path, "the image", stack.shape, stack.dtype.itemsize, path.stat().st_size)
        first = stack.pages[0].aspage()
        facts = _band_facts(_tag(first, GDAL_METADATA))
        axes = _axes(form, stack.shape, _centres(facts))
        n_bands = stack.shape[axes.index("c")]
        kept = _described(path, form, first, facts, n_bands) | {"swapped": axes.index("x") < axes.index("y")}
        if stack.offset is not None:
            order = stack.dtype.newbyteorder(file.byteorder)
            end = stack.offset + int(np.prod(stack.shape, dtype=object)) * stack.dtype.itemsize
            if end > path.stat().st_size:
                raise RawFileError(
                    f"{path}: {path.stat().st_size} bytes, but its tags promise {end}; it is truncated, copy it again"
                )
            return StoredArray(FileArray(path, order, stack.shape, stack.offset), axes, (path,), **kept)
        _require_sound_pages(path, stack.pages)
        n_pages = len(stack.pages)
        page_bytes = int(np.prod(stack.shape, dtype=object)) * stack.dtype.itemsize // n_pages
        if page_bytes > MAX_PAGE_BYTES:
            raise RawFileError(
                f"{path}: one compressed page unpacks to {page_bytes >> 20} MiB, more than {MAX_PAGE_BYTES >> 20}; write it again with one page per band"
            )
        indices = [page.index for page in stack.pages]

    def blocks() -> Iterator[np.ndarray]:
        with tifffile.TiffFile(path) as again:
            for index in indices:
                yield again.pages[index].asarray()

    return StoredArray(Packed(stack.shape, stack.dtype, blocks), axes, (path,), **kept)


def _stack(path: Path, file: Any) -> _Stack:
    """The series or pages that are the cube."""
    series = list(file.series)
    if not series:
        raise RawFileError(f"{path}: no image in this TIFF file; copy it again")
    planes: dict[tuple[tuple[int, ...], str], list[Any]] = defaultdict(list)
    for s in series:
        if (plane := _plane(s)) is not None:
            planes[plane, str(s.dtype)].append(s)
    cubes = [s for s in series if _plane(s) is None and len(squeezed(tuple(s.shape))) == 3 and s.dtype is not None]
    largest = max((_n_values(s) for s in cubes), default=0)
    # a preview or a mask may lie beside the bands: what holds the most values is the image
    stacked = max(planes.values(), key=lambda same: sum(map(_n_values, same)), default=[])
    if sum(map(_n_values, stacked)) > largest:
        dtype = np.dtype(stacked[0].dtype)
        shape = (len(stacked), *(_plane(stacked[0]) or ()))
        pages = [_page(path, p) for s in stacked for p in s.pages]
        offset = stacked[0].dataoffset if len(stacked) == 1 else None
        return _Stack(require_cube(path, "its pages", shape, dtype), dtype, pages, offset)
    if not cubes:
        shapes = ", ".join("x".join(map(str, s.shape)) for s in series[:8])
        raise RawFileError(
            f"{path}: images of {shapes}, expected one with three axes (row, column, band) or equal pages of two; name another file"
        )
    best = [s for s in cubes if _n_values(s) == largest]
    if len(best) > 1:
        raise RawFileError(
            f"{path}: {len(best)} images of {'x'.join(map(str, best[0].shape))}, expected one; keep each in a file of its own"
        )
    dtype = np.dtype(best[0].dtype)
    shape = require_cube(path, "the image series", squeezed(tuple(best[0].shape)), dtype)
    return _Stack(shape, dtype, [_page(path, p) for p in best[0].pages], best[0].dataoffset)


def _plane(series: Any) -> tuple[int, int] | None:
    """(rows, columns) of a series that is one plane, however many axes of length one go before; None for others."""
    shape = tuple(int(n) for n in series.shape)
    is_plane = series.axes.endswith("YX") and all(n == 1 for n in shape[:-2])
    return (shape[-2], shape[-1]) if is_plane else None


def _n_values(series: Any) -> int:
    return math.prod(int(n) for n in series.shape)


def _page(path: Path, page: Any) -> Any:
    if page is None:
        raise RawFileError(f"{path}: a page is missing; it is truncated, copy it again")
    return page


def _require_sound_pages(path: Path, pages: Sequence[Any]) -> None:
    """Refuse pages whose pieces lie outside the file or are far larger than the page: tifffile would allocate them."""
    size = path.stat().st_size
    for whole in pages:
        page = whole.aspage()
        outside = any(o + n > size for o, n in zip(page.dataoffsets, page.databytecounts, strict=False))
        piece_bytes = math.prod(page.chunks) * (page.bitspersample // 8 or 1)
        if outside or piece_bytes > 4 * page.nbytes + HARMLESS_BYTES:
            raise RawFileError(
                f"{path}: the tags of a page promise data beyond the end of the file or beyond its size; it is damaged, copy it again"
            )


def _axes(form: Form, shape: tuple[int, int, int], centres: Centres | None) -> str:
    known_nm = form.known_wavelengths_nm()
    counts = [] if known_nm is None else [len(known_nm) + len(form.drop_bands)]
    counts += [] if centres is None else [len(centres.values)]
    for n_bands in counts:
        for axes in (form.axes, "cyx", "yxc"):
            if shape[axes.index("c")] == n_bands:
                return axes
    return form.axes


def _described(path: Path, form: Form, page: Any, facts: _BandFacts, n_bands: int) -> dict[str, Any]:
    """What tags and metadata say, as arguments of StoredArray."""
    gains = Gains(None, None, None)
    if form.scale is None:
        gain, offset = _of_bands(facts, "scale", n_bands, 1.0), _of_bands(facts, "offset", n_bands, 0.0)
        if gain is not None or offset is not None:
            gains = gains_of(path, gain, offset, n_bands)
    centres = _centres(facts)
    good = _of_bands(facts, "bbl", n_bands, 1.0) if form.bad_bands == "drop" else None
    nodata = _float(_tag(page, GDAL_NODATA))
    fwhm, fwhm_unit = None, None
    for name, unit in WIDTH_ITEMS.items():
        fwhm = fwhm or _of_bands(facts, name, n_bands)
        fwhm_unit = fwhm_unit or (unit if fwhm else None)
    return {
        "centres": centres if centres is not None and len(centres.values) == n_bands else None,
        "fwhm": fwhm,
        "fwhm_unit": fwhm_unit,
        "scale": gains.scale,
        "gain": gains.gain,
        "offset": gains.offset,
        "good_bands": None if good is None else np.asarray(good) > 0,
        "ignore_values": () if nodata is None else (nodata,),
        "georeference": _georeference(page),
    }


def _band_facts(text: Any) -> _BandFacts:
    """Items of GDAL's XML; nothing of an XML that cannot be read, since it is no part of the image."""
    facts = _BandFacts()
    if not isinstance(text, str) or len(text) > MAX_METADATA_CHARS or "<!" in text:  # no entities that expand
        return facts
    try:
        items = xml.etree.ElementTree.fromstring(text.strip("\0 \n")).iter("Item")
        for item in items:
            name, sample = str(item.get("name", "")).lower(), item.get("sample")
            role = item.get("role")
            if sample is not None and sample.isdecimal():
                facts.by_band[role if role in ("scale", "offset") else name][int(sample)] = (item.text or "").strip()
            else:
                facts.whole[name] = (item.text or "").strip()
    except xml.etree.ElementTree.ParseError:
        return _BandFacts()
    return facts


def _centres(facts: _BandFacts) -> Centres | None:
    """Of one item per band, or, as GDAL carries them over from ENVI headers, of items Band_1, Band_2, ... with their unit."""
    for name, unit in CENTRE_ITEMS.items():
        measured = _with_unit(facts.by_band.get(name, {}))
        if measured is not None:
            values, inner = measured
            own_unit = facts.by_band.get("wavelength_units", {}).get(0) or facts.whole.get("wavelength_units")
            return Centres(values, unit or inner or own_unit, f"GDAL metadata item {name}")
    named = {int(m[1]) - 1: text for name, text in facts.whole.items() if (m := re.fullmatch(r"band_(\d+)", name))}
    measured = _with_unit(named)
    if measured is None:
        return None
    values, inner = measured
    unit = inner or facts.whole.get("wavelength_units")
    if unit and is_no_length(unit):
        return None  # names of bands that begin with a number
    return Centres(values, unit, "GDAL metadata items Band_1 to " + f"Band_{len(values)}")


def _with_unit(texts: Mapping[int, str]) -> tuple[tuple[float, ...], str | None] | None:
    """Numbers of the bands 0, 1, ... and the unit behind one of them; None if one is missing or no number."""
    parts = [
        re.match(r"\(?([\d.]+(?:e[+-]?\d+)?)\s*([^\d\s()]*)", texts.get(k, ""), re.IGNORECASE)
        for k in range(len(texts))
    ]
    sound = [m for m in parts if m is not None and _float(m[1]) is not None]
    if not sound or len(sound) < len(parts):
        return None
    return tuple(float(m[1]) for m in sound), next((m[2] for m in sound if m[2]), None)


def _of_bands(facts: _BandFacts, name: str, n_bands: int, absent: float | None = None) -> tuple[float, ...] | None:
    """One number per band, from items of single bands or from a list for all; None where there are none.

    absent : what a band without an item has; None: every band has to have one
    """
    texts = facts.by_band.get(name, {})
    if not texts and name in facts.whole:
        texts = dict(enumerate(w for w in re.split(r"[,\s{}]+", facts.whole[name]) if w))
    values = [_float(texts[k]) if k in texts else absent for k in range(n_bands)]
    sound = [v for v in values if v is not None]
    return tuple(sound) if texts and len(sound) == n_bands else None


def _georeference(page: Any) -> Georeference | None:
    vectors = [_tag(page, code) for code in (PIXEL_SCALE, TIEPOINT, TRANSFORMATION, GEO_KEYS)]
    scale, tiepoint, matrix, keys = (v if isinstance(v, tuple) else None for v in vectors)
    return from_geotiff(scale, tiepoint, matrix, keys)


def _tag(page: Any, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value


def _float(text: Any) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None
