"""One object that a person asked for, and what must hold for it in its image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from hvlabel.masks import Rle, areas
from hvlabel.prompt_files.source import Source, shown

MAX_EXCESS_PX = 1.0  # tools round boxes outwards: that much over the image's edge is clipped, not refused

Box = tuple[float, float, float, float]
Point = tuple[float, float]


class Drawn(NamedTuple):
    """An object's mask as its file holds it.

    score : what the file says, in [0, 1]; else 1
    name  : its class, where a file says that at the mask; or None
    """

    rle: Rle
    score: float = 1.0
    name: str | None = None


@dataclass(frozen=True)
class ObjectPrompt:
    """One object that a person asked for.

    box_xyxy  : px of the image, pixel edges: a box around the pixel columns 3..5 has x0 = 3, x1 = 6; or None
    points_xy : px; the centres of pixels are whole numbers
    labels    : one per point; 1 foreground, 0 background
    name      : its class, or None
    object_id : the file's own id, or the position in the file from 0
    drawn     : its mask, where masks were asked for; it then has no box and no points
    """

    box_xyxy: Box | None
    points_xy: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    name: str | None = None
    object_id: str = ""
    drawn: Drawn | None = None


class Stated(NamedTuple):
    """A prompt as the file states it, not yet checked.

    where : its place in the file, for errors
    drawn : reads its mask; None: the file has none of it
    """

    where: str
    prompt: ObjectPrompt
    drawn: Callable[[], Drawn] | None = None


def checked(source: Source, stated: Stated) -> ObjectPrompt:
    """The prompt, its box clipped to the image; PromptFileError if it cannot be meant."""
    where, prompt, _ = stated
    _require_text(source, where, prompt.name, prompt.object_id)
    for x, y in prompt.points_xy:
        _require_point(source, where, x, y)
    if prompt.points_xy and 1 not in prompt.labels:
        raise source.error(
            f"{where}: has background points only (label 0), expected at least one with label 1; add a foreground point"
        )
    if prompt.box_xyxy is None:
        return prompt
    return replace(prompt, box_xyxy=_inside(source, where, prompt.box_xyxy))


def checked_mask(source: Source, stated: Stated) -> ObjectPrompt:
    """The prompt with its mask instead of box and points; MaskFileError or PromptFileError if it has no sound one."""
    where, prompt, read = stated
    if read is None:
        raise source.error(
            f"{where}: a box or points without a mask, and prompts.backend drawn takes masks only (COCO or SA-1B with "
            "segmentations, instance masks as PNG or TIFF); add the mask, or choose backend sam, which draws it"
        )
    drawn = read()
    if not areas([drawn.rle])[0]:
        raise source.error(f"{where}: the mask marks no pixel; take it away")
    name = prompt.name or drawn.name
    _require_text(source, where, name, prompt.object_id)
    # what tools round into a box does not count: the mask says where the object is
    return ObjectPrompt(None, name=name, object_id=prompt.object_id, drawn=drawn)


def point_label(source: Source, where: str, value: float) -> int:
    """The label of a point: 1 foreground, 0 background."""
    if value not in (0, 1):  # SAM's labels of boxes, 2 and 3, are not for people
        raise source.error(f"{where}: the label {value:.10g} is neither 1 (foreground) nor 0 (background); correct it")
    return int(value)


def text_number(source: Source, where: str, text: str) -> float:
    """The finite number that a text spells."""
    try:
        # Python's own literals may hold underscores, numbers in files do not
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise source.error(f"{where}: {shown(text)} is not a finite number; correct it")
    return value


def box_of_points(xs: Sequence[float], ys: Sequence[float]) -> Box:
    """The tight box of a polygon's corners."""
    return min(xs), min(ys), max(xs), max(ys)


def _require_text(source: Source, where: str, name: str | None, object_id: str) -> None:
    """Refuse half a character, which JSON can spell and nothing downstream could write."""
    for text in (name or "", object_id):
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise source.error(f"{where}: the name or id {shown(text)} is no valid text; write it again")


def _inside(source: Source, where: str, box: Box) -> Box:
    """The box clipped to the image; it may reach over an edge by MAX_EXCESS_PX."""
    text = f"{where}: the box {_numbers(box)} (x0, y0, x1, y1)"
    x0, y0, x1, y1 = box
    width, height = source.width_px, source.height_px
    # in this order: what is not finite compares with nothing, what is empty lies nowhere
    if not all(map(math.isfinite, box)):
        raise source.error(f"{text} is not finite; expected px of the image, correct it")
    if x1 <= x0 or y1 <= y0:
        raise source.error(f"{text} is empty; expected x1 > x0 and y1 > y0, check the order of its numbers")
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise source.error(f"{text} lies outside the image of {source.size}; check that the file is of this image")
    excess = max(-x0, -y0, x1 - width, y1 - height)
    if excess > MAX_EXCESS_PX:
        raise source.error(
            f"{text} reaches {excess:.10g} px over the edge of the image of {source.size}; expected at most "
            f"{MAX_EXCESS_PX:g} px, check that the file is of this image and its boxes in this format's order"
        )
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def _require_point(source: Source, where: str, x: float, y: float) -> None:
    # pixel centres are whole numbers: the image's edges lie half a pixel outside the first and the last centre
    inside = -0.5 <= x <= source.width_px - 0.5 and -0.5 <= y <= source.height_px - 0.5
    if not inside:
        raise source.error(
            f"{where}: the point {_numbers((x, y))} (x, y) lies outside the image of {source.size}; "
            "check that the file is of this image, and the order x, y"
        )


def _numbers(values: Iterable[float]) -> str:
    """Numbers in brackets, for messages."""
    return "(" + ", ".join(f"{value:.10g}" for value in values) + ")"
