"""Weight-free masks: felzenszwalb graph regions at several scales, scored by how well they persist over scales."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import scipy.ndimage as ndi
from skimage.segmentation import felzenszwalb

from hvlabel.config import Branch, RegionSettings
from hvlabel.masks import Mask, encode, interior_point, mask_nms, rank

MIN_REGION_PX = 8
LONGEST_FLOOD_PX = 32_000  # OpenCV floods with 16-bit coordinates


def multiscale_regions(image: np.ndarray, settings: RegionSettings, branch: Branch) -> list[Mask]:
    """Distinct regions of all scales, best first; a region that encloses others also appears with its holes filled.

    image : (H, W, D) float32, each channel about [0, 1]
    Predicted IoU and stability of a mask are its persistence: the mean over the other scales of the best IoU with a
    region there, in [0, 1]. Its score is that times area / (area + half_score_share of the image).
    """
    n_px = image.shape[0] * image.shape[1]
    min_px = max(MIN_REGION_PX, round(settings.min_area_share * n_px))
    half_score_px = settings.half_score_share * n_px
    levels = [_labels(image, scale, settings.sigma_px, min_px) for scale in settings.scales]
    max_px = settings.max_area_share * n_px
    regions: list[np.ndarray] = []  # each within its box
    masks: list[Mask] = []
    for labels, persistence in zip(levels, _persistence(levels), strict=True):
        boxes = ndi.find_objects(labels + 1)  # label 0 would be the background there
        for label, box in enumerate(boxes):
            label_persistence = persistence[label]
            for region in _with_filled(labels[box] == label, min_px):
                area_px = int(region.sum())
                if area_px > max_px:
                    continue
                # specks of noise persist over all scales too: their area counts against them
                score = label_persistence * area_px / (area_px + half_score_px)
                mask = _mask(region, box, image.shape[:2], float(label_persistence), float(score), branch)
                masks.append(mask)
                regions.append(region)
    rles = [mask.rle for mask in masks]
    kept, _ = mask_nms(rles, rank(masks), settings.nms_iou)
    # a point inside is searched for the survivors alone: it takes a distance transform
    best = kept[: settings.max_masks]
    return [_with_point(masks[k], regions[k]) for k in best]


def _labels(image: np.ndarray, scale: float, sigma_px: float, min_px: int) -> np.ndarray:
    """(H, W) int32 labels 0..n-1."""
    with warnings.catch_warnings():
        # scikit-image suspects a volume in an image of more than three channels
        warnings.filterwarnings("ignore", message="Got image with third dimension", category=RuntimeWarning)
        labels = felzenszwalb(image, scale=scale, sigma=sigma_px, min_size=min_px, channel_axis=2)
    return labels.astype(np.int32)


def _persistence(levels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Per level (n_labels,) float: mean over the other levels of the best IoU that a region reaches there."""
    best_iou = [np.zeros(level.max() + 1) for level in levels]  # summed over the other levels
    for a, b in combinations(range(len(levels)), 2):
        iou = _label_iou(levels[a], levels[b])
        best_iou[a] += iou.max(axis=1)
        best_iou[b] += iou.max(axis=0)
    n_others = max(len(levels) - 1, 1)
    return [summed / n_others for summed in best_iou]


def _label_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) float IoU of every label of one map with every label of another, from their contingency table."""
    n, m = first.max() + 1, second.max() + 1
    first_label = first.ravel().astype(np.int64)  # int64: n * m may exceed 32 bits
    pair = first_label * m + second.ravel()  # (px,) a number for each pair of labels
    counts = np.bincount(pair, minlength=n * m)
    shared = counts.reshape(n, m)  # px
    first_px = shared.sum(axis=1, keepdims=True)  # (n, 1); maps label every pixel, so sums are areas
    second_px = shared.sum(axis=0, keepdims=True)  # (1, m)
    union = first_px + second_px - shared
    return shared / union


def _mask(
    inside: np.ndarray,
    box: tuple[slice, slice],
    shape: tuple[int, int],
    persistence: float,
    score: float,
    branch: Branch,
) -> Mask:
    """The mask; its point is the corner of its box until it has survived."""
    mask = np.zeros(shape, bool, order="F")  # as masks are encoded
    mask[box] = inside
    rows, columns = box
    corner = (float(columns.start), float(rows.start))
    return Mask(encode(mask), score, branch, corner, predicted_iou=persistence, stability_score=persistence)


def _with_filled(inside: np.ndarray, min_px: int) -> list[np.ndarray]:
    """A region, and the same without holes where they make at least min_px of a difference."""
    filled = _without_holes(inside)
    holes_px = filled.sum() - inside.sum()
    return [inside, filled] if holes_px >= min_px else [inside]


def _without_holes(inside: np.ndarray) -> np.ndarray:
    """(h, w) bool: all that the background does not reach from outside, in steps along rows and columns."""
    if max(inside.shape) > LONGEST_FLOOD_PX:
        return ndi.binary_fill_holes(inside)
    background = (~inside).astype(np.uint8)
    # a frame of background, so that all that touches the box is reached from one corner
    framed = cv2.copyMakeBorder(background, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(framed, None, (0, 0), 2)
    return framed[1:-1, 1:-1] != 2


def _with_point(mask: Mask, inside: np.ndarray) -> Mask:
    """The mask with a point inside, from the region in its box, whose corner stood for it."""
    left, top = mask.point_xy
    x, y = interior_point(inside)
    return replace(mask, point_xy=(left + x, top + y))
