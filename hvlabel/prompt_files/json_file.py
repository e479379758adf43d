"""JSON annotations: which of the formats a file is in, and the plain one of this project."""

from __future__ import annotations

from collections.abc import Iterator

from hvlabel.prompt_files import coco
from hvlabel.prompt_files.json_values import list_of, numbers_of, parsed, text_or_none
from hvlabel.prompt_files.prompt import Box, ObjectPrompt, Point, Stated, point_label
from hvlabel.prompt_files.source import Source


def read(source: Source) -> Iterator[Stated]:
    """The prompts of a JSON file: COCO (images, annotations), SA-1B (annotations), or plain (boxes, points)."""
    document = parsed(source)
    if isinstance(document, list):
        return _plain(source, {"boxes": document})  # the shortest file that makes sense
    if isinstance(document, dict):
        # by keys, not by names of formats: nobody writes these down
        if "images" in document and "annotations" in document:
            return coco.read_coco(source, document)
        if "annotations" in document:
            return coco.read_sa1b(source, document)
        if "boxes" in document or "points" in document:
            return _plain(source, document)
    raise source.error(
        "no annotations that are known here; expected COCO (images, annotations), SA-1B (image, annotations), "
        "a mapping with boxes or points, or a list of boxes [x0, y0, x1, y1]"
    )


def _plain(source: Source, document: dict[str, object]) -> Iterator[Stated]:
    """{"boxes": [[x0, y0, x1, y1], ...], "points": [...], "names": [...]}: every entry is an object of its own.

    A point entry is [x, y], [x, y, label], or a list of such lists. Names are those of the boxes, then of the points.
    """
    boxes = list_of(source, "boxes", document.get("boxes", []))
    points = list_of(source, "points", document.get("points", []))
    n_objects = len(boxes) + len(points)
    names = list_of(source, "names", document.get("names", [None] * n_objects))
    if len(names) != n_objects:
        raise source.error(
            f"{len(names)} names for {len(boxes)} boxes and {len(points)} points; expected one each, boxes first, "
            "null where an object has none"
        )
    for k, name in enumerate(names):
        text = text_or_none(source, f"names[{k}]", name)
        if k < len(boxes):  # boxes come first
            where = f"boxes[{k}]"
            prompt = ObjectPrompt(_box(source, where, boxes[k]), name=text, object_id=str(k))
        else:
            where = f"points[{k - len(boxes)}]"
            points_xy, labels = _points(source, where, points[k - len(boxes)])
            prompt = ObjectPrompt(None, points_xy, labels, text, str(k))
        yield Stated(where, prompt)


def _box(source: Source, where: str, entry: object) -> Box:
    """A box as pixel edges."""
    x0, y0, x1, y1 = numbers_of(source, where, entry, "4 numbers x0, y0, x1, y1", n=(4,))
    return x0, y0, x1, y1


def _points(source: Source, where: str, entry: object) -> tuple[tuple[Point, ...], tuple[int, ...]]:
    """The points of one object and their labels; without a label a point is foreground."""
    items = list_of(source, where, entry)
    if not items:
        raise source.error(f"{where}: no point in it, expected [x, y] or a list of such points; take it away")
    several = isinstance(items[0], list)  # a list of points; else the numbers of one
    points = []
    labels = []
    for item in items if several else [items]:
        numbers = numbers_of(source, where, item, "2 numbers x, y or 3 with a label", n=(2, 3))
        points.append((numbers[0], numbers[1]))
        labels.append(point_label(source, where, numbers[2] if len(numbers) == 3 else 1))
    return tuple(points), tuple(labels)
