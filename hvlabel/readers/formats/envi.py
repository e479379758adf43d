"""ENVI: a text header beside a raw binary file, any interleave and byte order."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.arrays import FileArray
from hvlabel.readers.contract import Certainty, Look, StoredArray
from hvlabel.readers.formats.envi_files import data_of, header_of, is_header
from hvlabel.readers.formats.envi_header import BLANKS, Header, parse_header
from hvlabel.readers.gains import NO_GAINS, Gains, gains_of
from hvlabel.readers.georeference import from_map_info
from hvlabel.readers.guesses import look_at_array
from hvlabel.readers.sizes import n_values
from hvlabel.wavelengths import Centres

T = TypeVar("T")
# ENVI's numeric type codes; complex ones (6, 9) are no images
TYPE_CODES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
# interleave -> (axis order, names of the sizes in that order)
INTERLEAVES = {
    "bsq": ("cyx", ("bands", "lines", "samples")),
    "bil": ("ycx", ("lines", "bands", "samples")),
    "bip": ("yxc", ("lines", "samples", "bands")),
}
# what the header calls gains, by what the values become through them; the first that is there counts
GAIN_FIELDS = (
    ("data gain values", "data offset values", "radiance"),
    ("data reflectance gain values", "data reflectance offset values", "reflectance"),
)
LEADING_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class _Layout:
    """How the numbers lie in the data file. offset: bytes before the first."""

    axes: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int

    @property
    def n_bytes(self) -> int:
        """Of the numbers alone."""
        return n_values(self.shape) * self.dtype.itemsize

    def size(self, letter: str) -> int:
        """Lines (y), samples (x) or bands (c)."""
        return self.shape[self.axes.index(letter)]


def read(path: Path, form: Form) -> StoredArray:
    """An ENVI image named by its header or by its data file.

    Lenient where headers in the wild are: a missing byte order or header offset is 0, lists may end in a comma. What
    the form itself says need not be sound in the header. docs/FORMATS.md lists the fields that are read.
    """
    header = parse_header(header_of(path))
    layout = _layout(header)
    # a data file that is named is read, whatever else lies beside it
    n_bytes = layout.offset + layout.n_bytes
    data_path = data_of(header.path, n_bytes) if is_header(path) else path
    _require_size(data_path, header.path, layout)
    n_bands = layout.size("c")
    said = _said(lambda: _gains(header, n_bands), needed=form.scale is None)
    gains, unit = said or (NO_GAINS, None)
    if form.scale is not None:  # then the form says what the values mean
        gains = NO_GAINS
    renamed = dict(zip("yxc", form.axes, strict=True))  # the form's axes for lines, samples, bands
    georeference = from_map_info(header.text("map info"), header.text("coordinate system string"))
    return StoredArray(
        array=FileArray(data_path, layout.dtype, layout.shape, layout.offset),
        axes="".join(renamed[letter] for letter in layout.axes),
        files=(header.path, data_path),
        centres=_said(lambda: _centres(header), needed=form.wavelengths_nm is None),
        fwhm=_said(lambda: _fwhm(header), needed=False),
        scale=gains.scale,
        unit=unit,
        gain=gains.gain,
        offset=gains.offset,
        good_bands=_good_bands(header, n_bands) if form.bad_bands == "drop" else None,
        ignore_values=_ignore_values(header),
        swapped=form.axes.index("x") < form.axes.index("y"),
        georeference=georeference,
    )


def look(path: Path) -> Look:
    """The header says all that a descriptor needs, but perhaps band centres."""
    stored = read(path, Form(container="envi"))
    look = look_at_array(stored)
    look.settings["files"] = "*.hdr"  # one name per image, whatever the data files are called
    return look


def recognises(path: Path, head: bytes) -> Certainty:
    """By the header's first word, or by a header beside a data file, which itself may begin with anything."""
    if head.lstrip(BLANKS.encode()).startswith(b"ENVI"):
        return Certainty.BESIDE
    try:
        header_of(path)
    except RawFileError:
        return Certainty.NONE
    return Certainty.BESIDE


def _layout(header: Header) -> _Layout:
    """RawFileError for whatever in it is missing, no number or not known."""
    word = header.text("interleave") or ""
    interleave = word.lower()
    if interleave not in INTERLEAVES:
        raise RawFileError(f"{header.path}: interleave is {interleave!r}, expected bsq, bil or bip; mend the header")
    axes, names = INTERLEAVES[interleave]
    first, second, third = (header.integer(name) for name in names)
    if min(first, second, third) < 1:
        raise RawFileError(
            f"{header.path}: {', '.join(names)} are {(first, second, third)}, expected positive sizes; mend the header"
        )
    code = header.integer("data type")
    if code not in TYPE_CODES:
        raise RawFileError(
            f"{header.path}: data type {code} is not a real number type; expected one of {sorted(TYPE_CODES)}"
        )
    # 1 is most significant byte first; whatever else stands there passes for 0
    byte_order = header.integer("byte order", 0)
    order = ">" if byte_order == 1 else "<"
    offset = header.integer("header offset", 0)
    if offset < 0 or header.integer("file compression", 0) != 0:
        raise RawFileError(f"{header.path}: a negative header offset or a compressed data file; export it uncompressed")
    dtype = np.dtype(order + TYPE_CODES[code])
    return _Layout(axes, (first, second, third), dtype, offset)


def _require_size(data_path: Path, header_path: Path, layout: _Layout) -> None:
    """RawFileError unless the data file has exactly the size that its header promises."""
    n_bytes = data_path.stat().st_size
    expected = layout.offset + layout.n_bytes
    if n_bytes == expected:
        return
    sizes = "x".join(str(layout.size(letter)) for letter in "cyx")
    promise = f"{sizes} {layout.dtype.name} after {layout.offset}"
    problem = f"{data_path}: {n_bytes} bytes, but the header {header_path.name} promises {expected} ({promise})"
    if n_bytes < expected:
        raise RawFileError(f"{problem}; the file is truncated or the header belongs to another image; copy both again")
    # too much of whole lines is a wrong number of lines, else it is likely to stand before the first
    line_bytes = layout.n_bytes // layout.size("y")
    lines, rest = divmod(n_bytes - layout.offset, line_bytes)
    likely = f"lines = {lines}" if rest == 0 else f"header offset = {layout.offset + n_bytes - expected}"
    raise RawFileError(f"{problem}; the header is wrong or belongs to another image: mend it, perhaps {likely}")


def _ignore_values(header: Header) -> tuple[float, ...]:
    """The number that the field begins with; words such as None stand for none."""
    text = header.text("data ignore value") or ""
    number = LEADING_NUMBER.match(text)
    return () if number is None else (float(number[0]),)


def _gains(header: Header, n_bands: int) -> tuple[Gains, str | None] | None:
    """Gains, offsets and scale, and the unit of what they give; None if the header has none."""
    factor = header.positive("reflectance scale factor")
    unit = None if factor is None else "reflectance"
    gain = offset = None
    for gain_field, offset_field, unit_of_gains in GAIN_FIELDS:
        gain = header.numbers(gain_field)
        offset = header.numbers(offset_field)
        if gain is not None or offset is not None:
            unit = unit or unit_of_gains
            break
    if unit is None:
        return None
    gains = gains_of(header.path, gain, offset, n_bands)
    if factor is None:
        return gains, unit
    # reflectance = value / factor, after the gains, if there are both
    scale = (gains.scale or 1.0) / factor
    return Gains(scale, gains.gain, gains.offset), unit


def _good_bands(header: Header, n_bands: int) -> np.ndarray | None:
    """(C,) bool from the bad band list, in which 0 is bad."""
    listed = header.numbers("bbl")
    if listed is None:
        return None
    if len(listed) != n_bands:
        raise RawFileError(
            f"{header.path}: bbl holds {len(listed)} values for {n_bands} bands; "
            "mend it, or set descriptor.bad_bands: keep"
        )
    return np.asarray(listed) > 0


def _centres(header: Header) -> Centres | None:
    """Band centres in the header's unit; None where it gives none."""
    values = header.numbers("wavelength")
    if values is None:
        return None
    unit = (header.text("wavelength units") or "").strip()
    singular = unit.lower().removesuffix("es").removesuffix("s")  # index, indexes and indices
    if singular in ("index", "indic"):
        return None  # set points of a filter, not band centres
    return Centres(tuple(values), unit, "header field wavelength")


def _fwhm(header: Header) -> tuple[float, ...] | None:
    """Band widths, in the unit of the centres; None where it gives none."""
    values = header.numbers("fwhm")
    return None if values is None else tuple(values)


def _said(read_field: Callable[[], T | None], *, needed: bool) -> T | None:
    """What a header says, or None where that is unsound and not needed."""
    try:
        return read_field()
    except RawFileError:
        if needed:
            raise
        return None
