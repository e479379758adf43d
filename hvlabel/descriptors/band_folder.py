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
    # with a dot in front it is a file of a file manager (`._band_05.png`), no picture
    pictures = [path for path in folder.glob(BAND_FILES) if path.name[0] != "." and path.is_file()]
    numbered = [path for path in pictures if path.stem[-1].isdecimal()]
    most_are_numbered = 2 * len(numbered) > len(pictures)
    bands = numbered if most_are_numbered else pictures
    return sorted(bands, key=_order)


def _order(path: Path) -> list[tuple[int, str]]:
    """A name's words and numbers; a word is a 0 with a text, so that both compare."""
    order = []
    for word in DIGITS.split(path.name.lower()):
        as_pair = (int(word), "") if word.isdecimal() else (0, word)
        order.append(as_pair)
    return order
