"""Masks and pixels without a measurement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hvlabel.masks.maskset import MaskSet
from hvlabel.masks.rle import areas, common, encode

MIN_VALID_SHARE = 0.5  # of a mask's pixels; one that covers fewer outlines the missing area, not an object


def on_valid(masks: MaskSet, valid: np.ndarray | None) -> MaskSet:
    """The masks without their invalid pixels; those that lie mostly on invalid ones are dropped.

    valid : (H, W) bool; None: every pixel is
    """
    if valid is None:
        return masks
    measured = encode(valid)
    sound = [common(mask.rle, measured) for mask in masks.masks]
    areas_px = areas(masks.rles)  # (N,)
    kept = []
    for mask, rle, area_px, sound_px in zip(masks.masks, sound, areas_px, areas(sound), strict=True):
        if sound_px < MIN_VALID_SHARE * area_px or not sound_px:
            continue
        kept.append(replace(mask, rle=rle) if sound_px < area_px else mask)
    return replace(masks, masks=tuple(kept))
