"""Which header and which data file of an ENVI image belong together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hvlabel.descriptors import ENVI_DATA_SUFFIXES
from hvlabel.errors import RawFileError

HEADER_SUFFIX = ".hdr"
HEADER_SUFFIXES = (HEADER_SUFFIX, HEADER_SUFFIX.upper())
SHOWN = 6  # files in a message


def header_of(path: Path) -> Path:
    """The header of an ENVI image named by its header or its data file; RawFileError if there is none.

    The file's own header, with .hdr added to its whole name, goes before one that shares its stem.
    """
    if is_header(path):
        return path
    shared = [path.with_suffix(suffix) for suffix in HEADER_SUFFIXES] if path.suffix else []
    for candidate in (*_own_headers(path), *shared):
        if candidate.is_file():
            return candidate
    raise RawFileError(f"{path}: no header {path.stem}.hdr beside it; an ENVI image needs one")


def data_of(header_path: Path, n_bytes: int) -> Path:
    """The data file of a header that promises n_bytes; RawFileError where that is none or not certain.

    `name.hdr` belongs to the file `name`, or to one of that stem without a header of its own: to that of the promised
    size. Usual suffixes are tried first, so that the folder need not be listed.
    """
    usual = _belonging(_usual_names(header_path), header_path)
    candidates = usual  # of which one has the promised size, mostly
    if not _of_size(usual, n_bytes):
        candidates = sorted(_belonging(_same_stem(header_path), header_path))
    fitting = _of_size(candidates, n_bytes)
    if len(fitting) == 1:
        return fitting[0]
    if len(fitting) > 1:
        raise RawFileError(
            f"{header_path}: {' and '.join(p.name for p in fitting)} both have the {n_bytes} bytes that it promises; "
            "name the data file itself, or move the other one away"
        )
    likely = usual or candidates
    if len(likely) == 1:
        return likely[0]  # its size tells what is wrong, in a better sentence than ours
    if not candidates:
        raise RawFileError(
            f"{header_path}: no data file beside the header; expected {header_path.stem}.dat, .raw, .img or the like"
            f"{_taken(header_path)}"
        )
    sizes = ", ".join(f"{p.name} ({p.stat().st_size} bytes)" for p in candidates[:SHOWN])
    raise RawFileError(
        f"{header_path}: promises {n_bytes} bytes, which none of {sizes} has; "
        "copy the data file again or mend the header"
    )


def is_header(path: Path) -> bool:
    """Whether a file is called like a header."""
    return path.suffix.lower() == HEADER_SUFFIX


def _usual_names(header_path: Path) -> list[Path]:
    """Paths beside a header with its stem and the usual suffixes, in small and in capital letters."""
    names = []
    for suffix in ENVI_DATA_SUFFIXES:
        for spelling in dict.fromkeys((suffix, suffix.upper())):  # the empty suffix has one spelling
            names.append(header_path.with_name(header_path.stem + spelling))
    return names


def _same_stem(header_path: Path) -> list[Path]:
    """Whatever lies beside a header and is called like it, with any suffix or none."""
    stem = header_path.stem
    beside = header_path.parent.iterdir()
    # p.name: the file to whose whole name .hdr was added
    return [p for p in beside if stem in (p.stem, p.name) and not is_header(p)]


def _belonging(paths: Iterable[Path], header_path: Path) -> list[Path]:
    """Those of some paths that are files which may belong to a header."""
    return [p for p in paths if p.is_file() and _may_belong(p, header_path)]


def _of_size(paths: Iterable[Path], n_bytes: int) -> list[Path]:
    return [p for p in paths if p.stat().st_size == n_bytes]


def _may_belong(data_path: Path, header_path: Path) -> bool:
    """Whether a data file has no other header of its own."""
    own_headers = _own_headers(data_path)
    has_own = any(path.is_file() for path in own_headers)
    return header_path in own_headers or not has_own


def _own_headers(data_path: Path) -> list[Path]:
    """Names of the header that is a data file's alone: .hdr added to its whole name."""
    return [data_path.with_name(data_path.name + suffix) for suffix in HEADER_SUFFIXES]


def _taken(header_path: Path) -> str:
    """A clause about a data file of this stem that belongs to another header, "" if there is none."""
    for path in sorted(header_path.parent.iterdir()):
        has_stem = path.stem == header_path.stem
        is_data = has_stem and not is_header(path) and path.is_file()
        if is_data and not _may_belong(path, header_path):
            return f"; {path.name} belongs to {path.name}.hdr: remove one of the two headers"
    return ""
