"""Mask NMS at size: boxes and areas first, exact IoU for what is left, against all pairs."""

import time

import cv2
import ledger
import numpy as np
from pycocotools import mask as coco

from hvlabel.masks import Mask, encode, mask_nms, rank

COUNTS, SIDE_PX, THRESHOLD = (1000, 2000), 1024, 0.8


def blobs(n: int, side_px: int, seed: int) -> list[np.ndarray]:
    """Ellipses, a third of them near copies of earlier ones."""
    rng = np.random.default_rng(seed)
    found: list[tuple] = []
    masks = []
    for _ in range(n):
        if found and rng.random() < 0.33:
            (x, y), (a, b), turn = found[rng.integers(len(found))]
            shape = ((x + rng.normal(0, 2), y + rng.normal(0, 2)), (a * rng.uniform(0.93, 1.07), b), turn)
        else:
            shape = (tuple(rng.uniform(0, side_px, 2)), tuple(rng.uniform(20, 300, 2)), rng.uniform(0, 180))
        found.append(shape)
        canvas = np.zeros((side_px, side_px), np.uint8)
        cv2.ellipse(canvas, shape, 1, -1)
        masks.append(canvas.astype(bool))
    return masks


def all_pairs(iou: np.ndarray, order: np.ndarray) -> list[int]:
    """Greedy suppression on a full matrix."""
    waiting, kept = np.ones(len(iou), bool), []
    for i in order:
        if waiting[i]:
            kept.append(int(i))
            waiting &= iou[i] <= THRESHOLD
    return kept


def compare(n_masks: int) -> None:
    masks = blobs(n_masks, SIDE_PX, 0)
    rles = [encode(m) for m in masks]
    score = np.random.default_rng(1).random(n_masks)
    order = rank([Mask(r, float(s), "rgb", (0.0, 0.0)) for r, s in zip(rles, score, strict=True)])

    start = time.perf_counter()
    kept, _ = mask_nms(rles, order, THRESHOLD)
    ours_s = time.perf_counter() - start

    start = time.perf_counter()
    by_rle = all_pairs(np.asarray(coco.iou(rles, rles, [False] * n_masks)), order)
    rle_s = time.perf_counter() - start

    start = time.perf_counter()
    flat = np.stack([m.ravel() for m in masks[: n_masks // 4]]).astype(np.float32)
    _ = flat @ flat.T
    product_s = (time.perf_counter() - start) * 16  # a quarter of the masks: a sixteenth of the pairs

    quality = f"{len(kept)} of {n_masks} kept, the same masks: {kept == by_rle}"
    ledger.append("nms", f"{n_masks} masks of {SIDE_PX} px", ours_s, "all pairs by pycocotools", rle_s, quality)
    ledger.append(
        "nms",
        f"{n_masks} masks of {SIDE_PX} px",
        ours_s,
        "matrix product (extrapolated from a quarter)",
        product_s,
        quality,
    )


if __name__ == "__main__":
    for count in COUNTS:
        compare(count)
