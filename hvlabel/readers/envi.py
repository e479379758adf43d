"""ENVI: a text header beside a raw binary file, any interleave and byte order."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from hvlabel.descriptors import ENVI_DATA_SUFFIXES, Form
from hvlabel.errors import RawFileError
from hvlabel.readers.georeference import from_map_info
from hvlabel.readers.stored import FileArray, Gains, StoredArray, gains_of
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
HEADER_SUFFIX = ".hdr"


def read(path: Path, form: Form) -> StoredArray:
    """An ENVI image named by its header or by its data file.

    Lenient where headers in the wild are: a missing byte order or header offset is 0, lists may end in a comma. What the
    form itself says need not be sound in the header. docs/FORMATS.md lists the fields that are read.
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
    n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    data_path = data_of(header_path, offset + n_bytes) if _is_header(path) else path
    _require_size(data_path, header_path, dict(zip(names, shape, strict=True)), dtype, offset)
    n_bands = shape[axes.index("c")]
    told = _told(partial(_gains, n_bands=n_bands), header_path, header, needed=form.scale is None)
    gains, unit = told or (Gains(None, None, None), None)
    if form.scale is not None:  # then the form says what the values mean
        gains = Gains(None, None, None)
    first, second, third = shape
    renamed = dict(zip("yxc", form.axes, strict=True))  # the form's axes for lines, samples, bands
    return StoredArray(
        array=FileArray(data_path, dtype, (first, second, third), offset),
        axes="".join(renamed[a] for a in axes),
        files=(header_path, data_path),
        centres=_told(_centres, header_path, header, needed=form.wavelengths_nm is None),
        fwhm=_told(_fwhm, header_path, header, needed=False),
        scale=gains.scale,
        unit=unit,
        gain=gains.gain,
        offset=gains.offset,
        good_bands=_good_bands(header_path, header, n_bands) if form.bad_bands == "drop" else None,
        ignore_values=_ignore_values(header),
        swapped=form.axes.index("x") < form.axes.index("y"),
        georeference=from_map_info(header.get("map info"), header.get("coordinate system string")),
    )


def parse_header(path: Path) -> dict[str, str]:
    """Fields of an ENVI header, keys in lower case, values as text without braces."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RawFileError(f"{path}: cannot read the header ({error.strerror}); expected an ENVI .hdr file") from error
    if not text.lstrip("\ufeff \t\r\n").startswith("ENVI"):
        raise RawFileError(f"{path}: the first line is not 'ENVI'; expected an ENVI header")
    fields = re.findall(
        r"^[ \t]*([^=;{}\n]+?)[ \t]*=[ \t]*(?:\r?\n[ \t]*(?=\{))?(\{[^}]*\}|[^\n]*)", text, flags=re.MULTILINE
    )
    return {key.strip().lower(): value.strip().strip("{}").strip() for key, value in fields}


def header_of(path: Path) -> Path:
    """The header of an ENVI image named by its header or its data file; RawFileError if there is none.

    The file's own header, with .hdr added to its whole name, goes before one that shares its stem.
    """
    if _is_header(path):
        return path
    own = [path.with_name(path.name + suffix) for suffix in (".hdr", ".HDR")]
    shared = [path.with_suffix(suffix) for suffix in (".hdr", ".HDR")] if path.suffix else []
    for candidate in (*own, *shared):
        if candidate.is_file():
            return candidate
    raise RawFileError(f"{path}: no header {path.stem}.hdr beside it; an ENVI image needs one")


def data_of(header_path: Path, n_bytes: int) -> Path:
    """The data file of a header that promises n_bytes; RawFileError where that is none or not certain.

    `name.hdr` belongs to the file `name`, or to one of that stem without a header of its own: to the one of the promised size.
    Usual suffixes are tried first, so that the folder need not be listed.
    """
    name = header_path.stem
    usual = [name + s for suffix in ENVI_DATA_SUFFIXES for s in dict.fromkeys((suffix, suffix.upper()))]
    present = [p for p in map(header_path.with_name, usual) if p.is_file() and _may_belong(p, header_path)]
    candidates = present
    if not any(p.stat().st_size == n_bytes for p in present):
        same_stem = [p for p in header_path.parent.iterdir() if name in (p.stem, p.name) and not _is_header(p)]
        candidates = sorted(p for p in same_stem if p.is_file() and _may_belong(p, header_path))
    fitting = [p for p in candidates if p.stat().st_size == n_bytes]
    if len(fitting) == 1:
        return fitting[0]
    if len(fitting) > 1:
        raise RawFileError(
            f"{header_path}: {' and '.join(p.name for p in fitting)} both have the {n_bytes} bytes that it promises; "
            "name the data file itself, or move the other one away"
        )
    if len(present or candidates) == 1:
        return (present or candidates)[0]  # its size tells what is wrong
    if not candidates:
        raise RawFileError(
            f"{header_path}: no data file beside the header; expected {name}.dat, .raw, .img or the like{_taken(header_path)}"
        )
    sizes = ", ".join(f"{p.name} ({p.stat().st_size} bytes)" for p in candidates[:6])
    raise RawFileError(
        f"{header_path}: promises {n_bytes} bytes, which none of {sizes} has; copy the data file again or mend the header"
    )


def _taken(header_path: Path) -> str:
    """A clause about a data file of this stem that belongs to another header, "" if there is none."""
    same_stem = (p for p in sorted(header_path.parent.iterdir()) if p.stem == header_path.stem and not _is_header(p))
    other = next((p for p in same_stem if p.is_file() and not _may_belong(p, header_path)), None)
    return "" if other is None else f"; {other.name} belongs to {other.name}.hdr: remove one of the two headers"


def _is_header(path: Path) -> bool:
    return path.suffix.lower() == HEADER_SUFFIX


def _may_belong(data_path: Path, header_path: Path) -> bool:
    """Whether a data file has no other header of its own."""
    own = [data_path.with_name(data_path.name + suffix) for suffix in (".hdr", ".HDR")]
    return header_path in own or not any(p.is_file() for p in own)


def _require_size(data_path: Path, header_path: Path, sizes: dict[str, int], dtype: np.dtype, offset: int) -> None:
    """RawFileError unless the data file has exactly the size that its header promises."""
    found = data_path.stat().st_size
    line_bytes = sizes["samples"] * sizes["bands"] * dtype.itemsize
    expected = offset + sizes["lines"] * line_bytes
    if found == expected:
        return
    promise = f"{'x'.join(str(sizes[n]) for n in ('bands', 'lines', 'samples'))} {dtype.name}"
    told = (
        f"{data_path}: {found} bytes, but the header {header_path.name} promises {expected} ({promise} after {offset})"
    )
    if found < expected:
        raise RawFileError(f"{told}; the file is truncated or the header belongs to another image; copy both again")
    lines, rest = divmod(found - offset, line_bytes)
    likely = f"lines = {lines}" if rest == 0 else f"header offset = {offset + found - expected}"
    raise RawFileError(f"{told}; the header is wrong or belongs to another image: mend it, perhaps {likely}")


def _ignore_values(header: dict[str, str]) -> tuple[float, ...]:
    """The number that the field begins with; words such as None stand for none."""
    number = re.match(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", header.get("data ignore value", ""), re.IGNORECASE)
    return () if number is None else (float(number[0]),)


def _gains(path: Path, header: dict[str, str], n_bands: int) -> tuple[Gains, str | None]:
    """Gains, offsets and scale, and the unit of what they give."""
    factor = _scale_factor(path, header)
    unit = "reflectance" if factor else None
    gain = offset = None
    for kind, given_unit in (("", "radiance"), ("reflectance ", "reflectance")):
        gain = _numbers(path, header, f"data {kind}gain values")
        offset = _numbers(path, header, f"data {kind}offset values")
        if gain is not None or offset is not None:
            unit = unit or given_unit
            break
    gains = gains_of(path, gain, offset, n_bands)
    if factor is None:
        return (gains, unit) if unit else (Gains(None, None, None), None)
    return Gains((gains.scale or 1.0) / factor, gains.gain, gains.offset), unit


def _scale_factor(path: Path, header: dict[str, str]) -> float | None:
    text = header.get("reflectance scale factor")
    factor = _number(path, "reflectance scale factor", text) if text else None
    if factor is not None and not 0 < factor < math.inf:
        raise RawFileError(f"{path}: reflectance scale factor is {text}, expected a positive number; mend the header")
    return factor


def _good_bands(path: Path, header: dict[str, str], n_bands: int) -> np.ndarray | None:
    """(C,) bool from the bad band list, in which 0 is bad."""
    listed = _numbers(path, header, "bbl")
    if listed is None:
        return None
    if len(listed) != n_bands:
        raise RawFileError(
            f"{path}: bbl holds {len(listed)} values for {n_bands} bands; mend it, or set descriptor.bad_bands: keep"
        )
    return np.asarray(listed) > 0


def _centres(path: Path, header: dict[str, str]) -> Centres | None:
    values = _numbers(path, header, "wavelength")
    if values is None:
        return None
    unit = header.get("wavelength units", "").strip()
    if unit.lower().removesuffix("es").removesuffix("s") in ("index", "indic"):
        return None  # set points of a filter, not band centres
    return Centres(tuple(values), unit, "header field wavelength")


def _fwhm(path: Path, header: dict[str, str]) -> tuple[float, ...] | None:
    values = _numbers(path, header, "fwhm")
    return None if values is None else tuple(values)


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


def _numbers(path: Path, header: dict[str, str], name: str) -> list[float] | None:
    """The numbers of a list, or None if the header has no such field or an empty one."""
    words = [w for w in re.split(r"[,\s]+", header.get(name, "")) if w]
    return [_number(path, name, w) for w in words] or None


def _number(path: Path, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise RawFileError(f"{path}: {name} holds {text!r}, expected a number; mend the header") from error
