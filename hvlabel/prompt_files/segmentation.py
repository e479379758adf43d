"""Tight boxes of COCO segmentations: polygons and run-length codes.

pycocotools reads compressed counts without looking for their end, and trusts that they fill the mask. These files come
from anywhere, so the runs are read and checked here; a test compares the boxes with those of pycocotools.
"""

from __future__ import annotations

import numpy as np

from hvlabel.prompt_files.json_values import list_of, mapping_of, numbers_of
from hvlabel.prompt_files.prompt import Box, box_of_points
from hvlabel.prompt_files.source import Source, shown

MIN_CORNER_VALUES = 6  # a polygon has at least three corners
BITS_PER_CHARACTER = 5
MAX_CHARACTERS = 13  # of one number: 65 bits


def tight_box(source: Source, where: str, segmentation: object) -> Box:
    """The box around a segmentation: a list of polygons [x1, y1, x2, y2, ...], or {"size": [H, W], "counts": ...}."""
    if isinstance(segmentation, list):
        return _polygon_box(source, where, segmentation)
    rle = mapping_of(source, f"{where}.segmentation", segmentation)
    size = numbers_of(source, where, rle.get("size"), "2 numbers height, width", n=(2,))
    source.require_size(size[1], size[0], f"{where}: its mask")
    return _run_box(source, where, _runs(source, where, rle.get("counts")))


def _polygon_box(source: Source, where: str, polygons: list[object]) -> Box:
    """The box around all polygons of an object: parts of it that something in front divides."""
    xs: list[float] = []
    ys: list[float] = []
    for polygon in polygons:
        values = numbers_of(source, f"{where}.segmentation", polygon, "x1, y1, x2, y2, ...")
        if len(values) < MIN_CORNER_VALUES or len(values) % 2:
            raise source.error(
                f"{where}: {len(values)} coordinates in a polygon, expected an even number of at least "
                f"{MIN_CORNER_VALUES}; correct it"
            )
        xs += values[0::2]
        ys += values[1::2]
    return box_of_points(xs, ys)


def _runs(source: Source, where: str, counts: object) -> np.ndarray:
    """(N,) int64 lengths of the runs in column-major order, background first; together they fill the image."""
    n_px = source.height_px * source.width_px
    runs = _decompressed(source, where, counts) if isinstance(counts, str) else list_of(source, where, counts)
    # a comparison first: a run must fit an int64 before numpy sees it
    sound = all(isinstance(run, int) and 0 <= run <= n_px for run in runs)
    lengths = np.array(runs if sound else [], np.int64)
    if int(lengths.sum()) != n_px:
        raise source.error(
            f"{where}: the counts {shown(counts)} are not the run lengths of {n_px} px ({source.size}); "
            "write the mask again"
        )
    return lengths


def _decompressed(source: Source, where: str, counts: str) -> list[int]:
    """COCO's compressed counts (rleFrString of cocoapi): 5 bits a character, from the third run on as differences."""
    runs: list[int] = []
    value = 0
    n_characters = 0
    for character in counts:
        code = ord(character) - ord("0")
        if not 0 <= code < 64 or n_characters == MAX_CHARACTERS:
            raise source.error(f"{where}: {shown(counts)} are no compressed counts of COCO; write the mask again")
        value |= (code & 0x1F) << (BITS_PER_CHARACTER * n_characters)
        n_characters += 1
        if code & 0x20:  # more of the same number follows
            continue
        if code & 0x10:  # negative
            value -= 1 << (BITS_PER_CHARACTER * n_characters)
        # to the run two before: the last one of the same colour
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = 0
        n_characters = 0
    if n_characters:
        raise source.error(f"{where}: the compressed counts end within a number; write the mask again")
    return runs


def _run_box(source: Source, where: str, runs: np.ndarray) -> Box:
    """The box around the marked pixels of an image, from (N,) run lengths alone: the mask is never unpacked."""
    height = source.height_px
    ends = np.cumsum(runs)
    foreground = np.arange(len(runs)) % 2 == 1  # the first run is background
    marked = foreground & (runs > 0)
    if not marked.any():
        raise source.error(f"{where}: the mask marks no pixel; take the annotation away")
    first = (ends - runs)[marked]
    last = ends[marked] - 1
    x0 = int(first.min()) // height
    x1 = int(last.max()) // height + 1
    if (first // height != last // height).any():  # a run over the end of a column covers its bottom and the next top
        return float(x0), 0.0, float(x1), float(height)
    y0 = int((first % height).min())
    y1 = int((last % height).max()) + 1
    return float(x0), float(y0), float(x1), float(y1)
