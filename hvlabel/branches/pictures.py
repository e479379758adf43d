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
    predicted_iou = min(1.0, max(0.0, mask.predicted_iou))  # which may exceed 1
    confidence = predicted_iou * mask.stability_score
    inside = decode(mask.rle)  # (H, W)
    off_border = 1 - border_share(inside)
    return replace(mask, score=confidence * off_border)


def border_share(mask: np.ndarray) -> float:
    """Share of the border pixels of an (H, W) bool mask that are foreground."""
    top, bottom = mask[0], mask[-1]
    between = mask[1:-1]  # the corners count once, as ends of rows
    left = between[:, 0]
    right = between[:, -1]
    border = np.concatenate([top, bottom, left, right])
    return float(border.mean())


def links(per_picture: Sequence[Sequence[Mask]], link_iou: float) -> list[np.ndarray]:
    """Per picture (T, N): how well each of its N masks is met on every one of the T pictures.

    That is the best IoU with a mask there, 0 if it is below link_iou, and 1 on its own picture.
    """
    n_pictures = len(per_picture)
    best_iou = [np.ones((n_pictures, len(masks))) for masks in per_picture]
    rles = [[mask.rle for mask in masks] for masks in per_picture]
    for a, b in combinations(range(n_pictures), 2):
        iou = iou_matrix(rles[a], rles[b])  # (N of a, N of b)
        # initial: a picture without masks confirms none
        of_a = iou.max(axis=1, initial=0)
        of_b = iou.max(axis=0, initial=0)
        best_iou[a][b] = of_a
        best_iou[b][a] = of_b
    for link in best_iou:
        link[link < link_iou] = 0
    return best_iou


def confirmed(per_picture: Sequence[Sequence[Mask]], link_iou: float) -> list[Mask]:
    """All masks, scored down to half where no other picture confirms them.

    `confirmed` of a mask's extra says on how many of the pictures it was met, its own included.
    """
    pooled: list[Mask] = []
    for masks, link in zip(per_picture, links(per_picture, link_iou), strict=True):
        for mask, met in zip(masks, link.T, strict=True):  # met: (T,) of this mask
            # its own picture counts among the T: the mean is never below 1 / T
            mean_link = float(met.mean())
            score = mask.score * (1 + mean_link) / 2
            n_pictures = int(np.count_nonzero(met))
            extra = {**mask.extra, "confirmed": n_pictures}
            pooled.append(replace(mask, score=score, extra=extra))
    return pooled
