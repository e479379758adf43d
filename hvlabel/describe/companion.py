"""Pictures that lie where an RGB companion of a raw file would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hvlabel.readers.contract import Look
from hvlabel.readers.pictures import is_colour

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
PICTURE_FOLDERS = ("rgb", "RGB", "color", "colour", "images", "false_color", "pseudocolor")


def propose_companion(path: Path, look: Look) -> None:
    """Put the first picture of the raw file's name into a look, unless there is a picture inside the file."""
    if "rgb_variable" in look.settings:
        return
    for rule, picture in _candidates(path):
        # a PNG or TIFF may be the raw file itself, and a grey one is no companion
        if picture != path and picture.is_file() and is_colour(picture):
            look.settings["rgb_companion"] = rule
            look.questions.append(f"is {picture} a picture of the same view, not turned? Else drop `rgb_companion`")
            return


def _candidates(path: Path) -> Iterator[tuple[str, Path]]:
    """(rule, path) of what may be a picture: beside the raw file or in the raw folder, then in folders beside it."""
    folder = path if path.is_dir() else path.parent
    places = [("", folder)]
    places += [(f"../{name}/", folder.parent / name) for name in PICTURE_FOLDERS]
    for prefix, place in places:
        for suffix in PICTURES:
            yield f"{prefix}{{stem}}{suffix}", place / f"{path.stem}{suffix}"
