"""Descriptors of a file, or of every kind of raw file below a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hvlabel.describe.file import describe_file
from hvlabel.describe.text import printable
from hvlabel.descriptors import band_files
from hvlabel.errors import RawFileError
from hvlabel.readers.formats.band_folder import FEWEST_BANDS
from hvlabel.readers.pictures import is_colour
from hvlabel.readers.table import RAW_SUFFIXES
from hvlabel.walk import visible_files

TRIED = 3  # images of a kind: a damaged one may be among the first


def describe(path: Path | str) -> str:
    """A descriptor as YAML, ready to be saved and used; what the file holds and what to check stand in its comments.

    A folder that is no image gives one for every kind of raw file below it. RawFileError if the file is of no known
    format or damaged, or the folder holds none.
    """
    path = Path(path)
    if path.is_dir() and not _is_band_folder(path):
        return _describe_folder(path)
    return describe_file(path)


def _describe_folder(folder: Path) -> str:
    """The descriptors of all kinds of images below a folder, each from the first one that can be read."""
    kinds = _kinds(folder)
    if not kinds:
        raise RawFileError(
            f"{folder}: no raw file of a known kind below this folder ({', '.join(RAW_SUFFIXES)}, "
            "or a folder with one PNG per band); name a raw file"
        )
    parts = []
    for kind, paths in kinds.items():
        parts.append(f"# {len(paths)} images: {kind}\n{_first_described(paths)}")
    return "\n---\n".join(parts)  # a YAML document each


def _first_described(paths: Sequence[Path]) -> str:
    """The descriptor of the first image that can be read; if none can, what is wrong with some, as comments."""
    refusals = []
    for path in paths[:TRIED]:
        try:
            return describe(path)
        except RawFileError as error:
            refusals.append(f"# {printable(str(error))}")
    return "\n".join(refusals)


def _kinds(folder: Path) -> dict[str, list[Path]]:
    """Raw files by suffix, and folders of band pictures, below a folder; ENVI images are counted by their headers."""
    kinds: dict[str, list[Path]] = {}
    band_folders: set[Path] = set()
    for path in visible_files(folder):
        suffix = path.suffix.lower()
        if suffix in RAW_SUFFIXES:
            kinds.setdefault(f"*{suffix}", []).append(path)
        # a folder is looked into once, at its first picture; the named folder itself was before
        elif suffix == ".png" and path.parent not in (folder, *band_folders) and _is_band_folder(path.parent):
            band_folders.add(path.parent)
    if band_folders:
        kinds["folders with one PNG per band"] = sorted(band_folders)
    return kinds


def _is_band_folder(path: Path) -> bool:
    """Whether a folder holds grey pictures that may be bands, and no raw file of another kind."""
    files = band_files(path)
    if len(files) < FEWEST_BANDS or any(p.suffix.lower() in RAW_SUFFIXES for p in path.iterdir()):
        return False
    return not (is_colour(files[0]) and is_colour(files[-1]))  # one coloured picture may lie among the bands
