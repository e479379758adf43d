"""ENVI: a text header beside a raw binary file, any interleave and byte order."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from hvlabel.descriptors import ENVI_DATA_SUFFIXES, Form
from hvlabel.errors import RawFileError
from hvlabel.readers.stored import FileArray, StoredArray

T = TypeVar("T")
# ENVI's numeric type codes; complex ones (6, 9) are no images
TYPE_CODES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
# interleave -> (axis order, names of the sizes in that order)
INTERLEAVES = {
    "bsq": ("cyx", ("bands", "lines", "samples")),
    "bil": ("ycx", ("lines", "bands", "samples")),
    "bip": ("yxc", ("lines", "samples", "bands")),
}
UNIT_IN_NM = {"nanometer": 1.0, "nm": 1.0, "micrometer": 1000.0, "um": 1000.0, "micron": 1000.0, "µm": 1000.0}


def read(path: Path, form: Form) -> StoredArray:
    """An ENVI image named by its header or by its data file.

    Lenient where headers in the wild are: a missing byte order or header offset is 0, lists may end in a comma,
    wavelengths below 100 without a unit are micrometres. What the form itself says need not be sound in the header.
    """
    header_path = header_of(path)
    header = parse_header(header_path)
    interleave = header.get("interleave", "").lower()
    if interleave not in INTERLEAVES:
        raise RawFileError(f"{header_path}: interleave is {interleave!r}, expected bsq, bil or bip; mend the header")
    axes, names = INTERLEAVES[interleave]
    shape = tuple(_integer(header_path, header, name) for name in names)
    if min(shape) < 1:
        raise RawFileError(f"{header_path}: {', '.join(names)} are {shape}, expected positive sizes; mend the header")
    code = _integer(header_path, header, "data type")
    if code not in TYPE_CODES:
        raise RawFileError(
            f"{header_path}: data type {code} is not a real number type; expected one of {sorted(TYPE_CODES)}"
        )
    order = ">" if _integer(header_path, header, "byte order", 0) == 1 else "<"
    dtype = np.dtype(order + TYPE_CODES[code])
    offset = _integer(header_path, header, "header offset", 0)
    if offset < 0 or _integer(header_path, header, "file compression", 0) != 0:
        raise RawFileError(f"{header_path}: a negative header offset or a compressed data file; export it uncompressed")
    expected = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    data_path = _data_of(header_path, expected) if path == header_path else path
    found = data_path.stat().st_size
    if found < expected:
        raise RawFileError(
            f"{data_path}: {found} bytes, but the header promises {expected} ({'x'.join(map(str, shape))} {dtype}); "
            "the file is truncated or the header belongs to another image; copy both again"
        )
    factor = _told(_scale_factor, header_path, header, needed=form.scale is None)
    first, second, third = shape
    renamed = dict(zip("yxc", form.axes, strict=True))  # the form's axes for lines, samples, bands
    return StoredArray(
        array=FileArray(data_path, dtype, (first, second, third), offset),
        axes="".join(renamed[a] for a in axes),
        files=(header_path, data_path),
        wavelengths_nm=_told(_wavelengths_nm, header_path, header, needed=form.wavelengths_nm is None),
        scale=1.0 / factor if factor else None,
        unit="reflectance" if factor else None,
    )


def parse_header(path: Path) -> dict[str, str]:
    """Fields of an ENVI header, keys in lower case, values as text without braces."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RawFileError(f"{path}: cannot read the header ({error.strerror}); expected an ENVI .hdr file") from error
    if not text.lstrip("\ufeff \t\r\n").startswith("ENVI"):
        raise RawFileError(f"{path}: the first line is not 'ENVI'; expected an ENVI header")
    fields = re.findall(r"^[ \t]*([^=;{}\n]+?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)", text, flags=re.MULTILINE)
    return {key.strip().lower(): value.strip().strip("{}").strip() for key, value in fields}


def _scale_factor(path: Path, header: dict[str, str]) -> float | None:
    text = header.get("reflectance scale factor")
    factor = _number(path, "reflectance scale factor", text) if text else None
    if factor is not None and not 0 < factor < math.inf:
        raise RawFileError(f"{path}: reflectance scale factor is {text}, expected a positive number; mend the header")
    return factor


def _wavelengths_nm(path: Path, header: dict[str, str]) -> tuple[float, ...] | None:
    words = [w for w in re.split(r"[,\s]+", header.get("wavelength", "")) if w]
    if not words:
        return None
    unit = header.get("wavelength units", "").lower()
    unit = unit.removesuffix("s")
    values = [_number(path, "wavelength", w) for w in words]
    if unit in UNIT_IN_NM:
        factor = UNIT_IN_NM[unit]
    elif unit in ("", "unknown"):
        factor = 1000.0 if max(values) < 100 else 1.0
    else:
        return None  # set points, wave numbers, indices: no band centres
    return tuple(v * factor for v in values)


def _told(
    say: Callable[[Path, dict[str, str]], T | None], path: Path, header: dict[str, str], *, needed: bool
) -> T | None:
    """What a header says, or None where that is unsound and not needed."""
    try:
        return say(path, header)
    except RawFileError:
        if needed:
            raise
        return None


def _integer(path: Path, header: dict[str, str], name: str, default: int | None = None) -> int:
    text = header.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"[+-]?\d+", text):
        raise RawFileError(f"{path}: {name} is {text!r}, expected a whole number; mend the header")
    return int(text)


def _number(path: Path, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise RawFileError(f"{path}: {name} holds {text!r}, expected a number; mend the header") from error


def header_of(path: Path) -> Path:
    """The header of an ENVI image named by its header or its data file; RawFileError if there is none."""
    if path.suffix.lower() == ".hdr":
        return path
    for candidate in (*(path.with_suffix(s) for s in (".hdr", ".HDR")), path.with_name(path.name + ".hdr")):
        if candidate.is_file():
            return candidate
    raise RawFileError(f"{path}: no header {path.with_suffix('.hdr').name} beside it; an ENVI image needs one")


def _data_of(header_path: Path, n_bytes: int) -> Path:
    """The data file beside a header: of several the first of exactly n_bytes, else the first."""
    stem = header_path.with_suffix("")
    names = [stem.name + s for suffix in ENVI_DATA_SUFFIXES for s in (suffix, suffix.upper())]
    found = [p for p in map(stem.with_name, names) if p.is_file()]
    if not found:
        raise RawFileError(
            f"{header_path}: no data file beside the header; expected {stem.name}.dat, .raw, .img or the like"
        )
    return next((p for p in found if p.stat().st_size == n_bytes), found[0])
