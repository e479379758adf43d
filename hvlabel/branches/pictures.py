"""Masks that a network made on several pictures of one scene: how each is scored, and how often it was confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from hvlabel.masks import Mask, decode, iou_matrix


def scored(mask: Mask) -> Mask:
    """The mask with score = predicted IoU * stability * (1 - share of the picture's border that it takes).

    A network is as sure of the ground behind all objects as of an object; the ground runs along the border.
    """
    confidence = min(1.0, max(0.0, mask.predicted_iou)) * mask.stability_score
    return replace(mask, score=confidence * (1 - border_share(decode(mask.rle))))


def border_share(mask: np.ndarray) -> float:
    """Share of the border pixels of an (H, W) bool mask that are foreground."""
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return float(border.mean())


def links(per_picture: Sequence[Sequence[Mask]], link_iou: float) -> list[np.ndarray]:
    """Per picture (T, N): how well each of its N masks is met on every one of the T pictures.

    That is the best IoU with a mask there, 0 if it is below link_iou, and 1 on its own picture.
    """
    n_pictures = len(per_picture)
    rles = [[m.rle for m in masks] for masks in per_picture]
    found = [np.ones((n_pictures, len(masks))) for masks in per_picture]
    for a, b in combinations(range(n_pictures), 2):
        iou = iou_matrix(rles[a], rles[b])
        found[a][b], found[b][a] = iou.max(axis=1, initial=0), iou.max(axis=0, initial=0)
    for link in found:
        link[link < link_iou] = 0
    return found


def confirmed(per_picture: Sequence[Sequence[Mask]], link_iou: float) -> list[Mask]:
    """All masks, scored down to half where no other picture confirms them.

    `confirmed` of a mask's extra says on how many of the pictures it was met, its own included.
    """
    pooled: list[Mask] = []
    for masks, link in zip(per_picture, links(per_picture, link_iou), strict=True):
        for mask, met in zip(masks, link.T, strict=True):
            extra = {**mask.extra, "confirmed": int(np.count_nonzero(met))}
            pooled.append(replace(mask, score=mask.score * (1 + float(met.mean())) / 2, extra=extra))
    return pooled
