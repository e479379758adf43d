"""Run-length codes of pycocotools: C-speed coding, areas, boxes and exact pairwise IoU without decoding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypedDict

import cv2
import numpy as np
from pycocotools import mask as coco

# of each number up to six characters that say it goes on, and one that ends it: 5 bits each
RUN_LENGTHS = re.compile(rb"(?:[P-o]{0,6}[0-O])*")
AREA_BATCH = 255  # pycocotools 2.0.11 fails on more areas at once: it puts their number into a uint8


class Rle(TypedDict):
    """COCO compressed RLE. size: [height, width] px; counts: compressed run lengths, column-major."""

    size: list[int]
    counts: bytes


def compressed(counts: str) -> bytes:
    """Compressed run lengths as pycocotools takes them; ValueError if they are none.

    pycocotools reads on while a character says that its number goes on, and past the end of the text writes beyond its
    memory: nothing from a file may reach it unseen.
    """
    content = counts.encode()
    if not RUN_LENGTHS.fullmatch(content):
        raise ValueError("its counts are no compressed run lengths")
    return content


def encode(mask: np.ndarray) -> Rle:
    """RLE of an (H, W) bool mask."""
    return encode_stack(mask[None])[0]


def encode_stack(masks: np.ndarray) -> list[Rle]:
    """RLEs of (N, H, W) bool masks."""
    if not len(masks):
        return []
    # pycocotools wants (H, W, N) in column-major order, which is (N, W, H) in row-major order
    n_masks, height, width = masks.shape
    columns = np.empty((n_masks, width, height), np.uint8)
    in_bytes = np.ascontiguousarray(masks).view(np.uint8)
    for mask, turned in zip(in_bytes, columns, strict=True):
        cv2.transpose(mask, turned)
    column_major = columns.transpose(2, 1, 0)  # (H, W, N), a view
    return list(coco.encode(column_major))


def decode(rle: Rle) -> np.ndarray:
    """(H, W) bool mask."""
    return coco.decode(rle).astype(bool)


def union(rles: Sequence[Rle], height_px: int, width_px: int) -> Rle:
    """What any of some masks of an image covers. By run lengths: of hundreds of masks in a few ms, at any size."""
    if not rles:
        return encode(np.zeros((height_px, width_px), bool))
    return _merged(rles, intersect=False)


def common(one: Rle, other: Rle) -> Rle:
    """What two masks of an image share."""
    return _merged([one, other], intersect=True)


def _merged(rles: Sequence[Rle], *, intersect: bool) -> Rle:
    """ValueError for masks of several sizes, of which pycocotools makes an empty one."""
    sizes = {tuple(rle["size"]) for rle in rles}
    if len(sizes) > 1:
        raise ValueError(f"masks of one image have different sizes {sorted(sizes)} (height, width)")
    return coco.merge(list(rles), intersect=intersect)


def areas(rles: Sequence[Rle]) -> np.ndarray:
    """(N,) int64 foreground px."""
    parts = [np.zeros(0, np.int64)]  # so that no mask at all is (0,)
    for start in range(0, len(rles), AREA_BATCH):
        batch = list(rles[start : start + AREA_BATCH])
        parts.append(coco.area(batch))
    return np.concatenate(parts).astype(np.int64)


def boxes_xywh(rles: Sequence[Rle]) -> np.ndarray:
    """(N, 4) float64 tight boxes x, y, width, height; width counts pixels (a one-pixel mask has width 1)."""
    if not rles:
        return np.zeros((0, 4))
    boxes = np.asarray(coco.toBbox(list(rles)))
    return boxes.reshape(-1, 4)


def boxes_xyxy(rles: Sequence[Rle]) -> np.ndarray:
    """(N, 4) float64 tight boxes x0, y0, x1, y1, ends excluded."""
    boxes = boxes_xywh(rles)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def iou_matrix(first: Sequence[Rle], second: Sequence[Rle]) -> np.ndarray:
    """(N, M) float64 exact mask IoU in [0, 1]; 0 where either mask is empty."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    no_crowds = [False] * len(second)  # COCO's other kind of overlap
    return np.asarray(coco.iou(list(first), list(second), no_crowds))


def interior_point(mask: np.ndarray) -> tuple[float, float]:
    """(x, y) px of the pixel deepest inside an (H, W) bool mask: a prompt that would ask for it."""
    # padded, so that the image's border counts as outside too
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]  # (H, W) px
    deepest = int(depth.argmax())  # of equal ones the first
    y, x = np.unravel_index(deepest, depth.shape)
    return float(x), float(y)
