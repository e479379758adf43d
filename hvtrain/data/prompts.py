"""Masks as they are asked for: which can be, by which point and box, and what the draws of a step are."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from hvtrain.data.schedule import PROMPT, rng

LEAST_QUALITY = 1e-3  # a mask of which less is expected is drawn as if it were this: seldom, but not never
MIN_CELLS = 4  # of the decoder's output that a mask must cover to be asked for: fewer cannot show its form


def covered_cells(mask: np.ndarray, side_cells: int) -> np.ndarray:
    """(side, side) bool of an (h, w) bool mask: cells of the decoder's output that it covers by at least half."""
    size = (side_cells, side_cells)
    share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return share >= 0.5


def can_be_asked_for(cells: np.ndarray, max_area_share: float) -> bool:
    """Whether a mask (L, L) bool covers some cells of the decoder's output, and not nearly all."""
    return MIN_CELLS <= int(cells.sum()) <= max_area_share * cells.size


def in_drawn_order(
    masks: np.ndarray, qualities: np.ndarray, temperature: float | None, random: np.random.Generator
) -> np.ndarray:
    """(m,) masks of an image in the order in which they are asked for.

    masks       : (m,) positions of masks in the image's label
    qualities   : (n,) of all masks of the label, in [0, 1]
    temperature : none: every order is as likely; else the next one is drawn by quality ** (1 / temperature)
    """
    if temperature is None or not len(masks):
        return random.permutation(masks)
    # logarithms: a small temperature would take every chance to 0
    expected = np.maximum(qualities[masks], LEAST_QUALITY)  # (m,)
    log_chance = np.log(expected) / temperature
    # the largest of log chance + Gumbel noise is a draw by those chances, the next one a draw of what is left
    keys = log_chance + random.gumbel(size=len(masks))
    return masks[np.argsort(-keys, kind="stable")]


def point_in(mask: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    """(x, y) px of a pixel of an (h, w) bool mask, each as likely."""
    inside = np.flatnonzero(mask)
    drawn = int(inside[random.integers(len(inside))])
    y, x = divmod(drawn, mask.shape[1])
    return float(x), float(y)


def box_of(mask: np.ndarray) -> np.ndarray:
    """(4,) float64 xyxy px of a non-empty (h, w) bool mask: its first and last pixel."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    left, right = columns[0], columns[-1]
    top, bottom = rows[0], rows[-1]
    return np.array([left, top, right, bottom], np.float64)


def jittered(box: np.ndarray, jitter: float, side_px: int, random: np.random.Generator) -> np.ndarray:
    """(4,) xyxy px: corners moved by a normal of `jitter` times the box's sides, kept inside the crop and in order."""
    sides = np.tile(box[2:] - box[:2] + 1, 2)  # width, height, width, height; + 1: corners are pixels of the mask
    offset = random.normal(0, jitter, 4) * sides
    moved = np.clip(box + offset, 0, side_px - 1)
    # of a small box corners may change sides
    top_left = np.minimum(moved[:2], moved[2:])
    bottom_right = np.maximum(moved[:2], moved[2:])
    return np.concatenate([top_left, bottom_right])


def begins_with_boxes(seed: int, step: int, box_share: float) -> bool:
    """Whether a step's masks are asked for by boxes; a function of seed and step."""
    return bool(rng(seed, PROMPT, step).random() < box_share)


def correction_draws(seed: int, step: int, positions: list[int], shape: tuple[int, int]) -> Tensor:
    """(R, B * K) float32 in [0, 1) for R rounds of corrections; the same whichever process holds a sample.

    positions : of the samples in their step's batch
    shape     : rounds R, masks per sample K
    """
    drawn = []
    for position in positions:
        random = rng(seed, PROMPT, step, position + 1)  # (PROMPT, step) alone is begins_with_boxes'
        of_sample = random.random(shape)  # (R, K)
        drawn.append(torch.from_numpy(of_sample))
    return torch.cat(drawn, dim=1).float()
