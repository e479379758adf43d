"""Annotation files as prompts: boxes, points or masks that people drew beside an image, read for one image.

| suffix | what is in it | coordinates in the file |
|---|---|---|
| .json | COCO; SA-1B, as written here; plain boxes and points | px; x, y, width, height (plain: x0, y0, x1, y1) |
| .csv | boxes or points, with a header | px; x0, y0, x1, y1 or x, y, width, height |
| .xml | Pascal VOC | 1-based indices of the first and the last pixel |
| .txt | YOLO boxes or polygons | fractions of the image's width and height |
| .png .tif .tiff | an instance mask | each non-zero value is one object |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hvlabel.prompt_files import csv_table, instance_mask, json_file, voc, yolo
from hvlabel.prompt_files.prompt import Drawn, ObjectPrompt, Stated, checked, checked_mask
from hvlabel.prompt_files.source import PromptFileError, Source

__all__ = ["Drawn", "ObjectPrompt", "PromptFileError", "read_prompts"]

READERS: dict[str, Callable[[Source], Iterable[Stated]]] = {
    ".json": json_file.read,
    ".csv": csv_table.read,
    ".xml": voc.read,
    ".txt": yolo.read,
    ".png": instance_mask.read_png,
    ".tif": instance_mask.read_tiff,
    ".tiff": instance_mask.read_tiff,
}


def read_prompts(
    path: Path | str,
    height_px: int,
    width_px: int,
    image_names: Sequence[str] = (),
    *,
    with_masks: bool = False,
) -> list[ObjectPrompt]:
    """The objects that a file asks for in one image, in the file's order; empty if it marks none.

    image_names : names by which a file of many images may know this one (file name, stem, id); whole names are compared
                  first, then stems. A file of a single image is taken to be of this one.
    with_masks  : each object comes with its mask as it is drawn, instead of box and points; one without is refused
    PromptFileError if the file is missing, damaged, of another kind, of another image, or asks for the impossible;
    MaskFileError if a mask is damaged.
    """
    path = Path(path)
    source = Source(path, height_px, width_px, tuple(image_names))
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise source.error(f"annotations with the suffix {path.suffix!r} are not known; expected {', '.join(READERS)}")
    check = checked_mask if with_masks else checked
    return [check(source, stated) for stated in reader(source)]
