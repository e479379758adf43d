"""Masks and pixels without a measurement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hvlabel.masks.maskset import MaskSet
from hvlabel.masks.rle import decode, encode

MIN_VALID_SHARE = 0.5  # of a mask's pixels; one that covers fewer outlines the missing area, not an object


def on_valid(masks: MaskSet, valid: np.ndarray | None) -> MaskSet:
    """The masks without their invalid pixels; those that lie mostly on invalid ones are dropped.

    valid : (H, W) bool; None: every pixel is
    """
    if valid is None:
        return masks
    kept = []
    for mask in masks.masks:
        inside = decode(mask.rle)
        sound = inside & valid
        area_px, sound_px = inside.sum(), sound.sum()
        if sound_px < MIN_VALID_SHARE * area_px or not sound_px:
            continue
        if sound_px < area_px:
            mask = replace(mask, rle=encode(sound))
        kept.append(mask)
    return replace(masks, masks=tuple(kept))
