"""YOLO label files: a line an object, in fractions of the image's width and height."""

from __future__ import annotations

from collections.abc import Iterator

from hvlabel.prompt_files.prompt import Box, ObjectPrompt, Stated, box_of_points, text_number
from hvlabel.prompt_files.source import Source, shown

TOLERANCE = 1e-3  # tools that round end a little outside [0, 1]
BOX_WORDS = (5, 6)  # class, cx, cy, w, h, and sometimes a confidence
MIN_POLYGON_WORDS = 7  # class and three corners


def read(source: Source) -> Iterator[Stated]:
    """Boxes `class cx cy w h` and polygons `class x1 y1 x2 y2 x3 y3 ...`; the class is the name."""
    n_objects = 0
    for number, line in enumerate(source.text().splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"line {number}"
        prompt = ObjectPrompt(_box(source, where, words), name=words[0], object_id=str(n_objects))
        yield Stated(where, prompt)
        n_objects += 1


def _box(source: Source, where: str, words: list[str]) -> Box:
    """A box in px, of a line's box or polygon: which one it is, the number of words tells."""
    if len(words) in BOX_WORDS:
        cx, cy, w, h = (_fraction(source, where, word) for word in words[1:5])
        box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    elif len(words) >= MIN_POLYGON_WORDS and len(words) % 2:
        corners = [_fraction(source, where, word) for word in words[1:]]
        box = box_of_points(corners[0::2], corners[1::2])
    else:
        raise source.error(
            f"{where}: {len(words)} words in {shown(' '.join(words))}, expected `class cx cy w h` or "
            "`class x1 y1 x2 y2 x3 y3 ...`; correct it"
        )
    width, height = source.width_px, source.height_px
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def _fraction(source: Source, where: str, word: str) -> float:
    """A number in [0, 1]."""
    value = text_number(source, where, word)
    if not -TOLERANCE <= value <= 1 + TOLERANCE:
        raise source.error(
            f"{where}: {value:.10g} is outside [0, 1], the values look like pixels; YOLO states fractions of the image "
            f"of {source.size}: divide by these, or write the boxes as CSV"
        )
    return min(max(value, 0.0), 1.0)  # what rounding took beyond
