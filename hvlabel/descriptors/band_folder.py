"""The files of an image that is a folder with one picture per band."""

from __future__ import annotations

import re
from pathlib import Path

BAND_FILES = "*.[pP][nN][gG]"
DIGITS = re.compile(r"(\d+)")


def band_files(folder: Path) -> list[Path]:
    """PNG files of a folder, ordered by the numbers in their names: band 2 comes before band 10.

    If the names of most of them end in a number, the others are no bands: an RGB picture may lie among them.
    """
    pictures = [p for p in folder.glob(BAND_FILES) if p.name[0] != "." and p.is_file()]
    numbered = [p for p in pictures if p.stem[-1].isdecimal()]
    most_are_numbered = 2 * len(numbered) > len(pictures)
    return sorted(numbered if most_are_numbered else pictures, key=_order)


def _order(path: Path) -> list[tuple[int, str]]:
    """A name's words and numbers; a word is a 0 with a text, so that both compare."""
    words = DIGITS.split(path.name.lower())
    return [(int(word), "") if word.isdecimal() else (0, word) for word in words]
