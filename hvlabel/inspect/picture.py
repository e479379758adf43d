"""One picture per image: RGB, the masks of each branch, the fused label."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import cv2
import numpy as np

from hvlabel.cube import open_cube
from hvlabel.layout import Layout
from hvlabel.masks import MaskSet, areas, decode, encode, masks_of, read_document, read_masks

PANEL_PX = 320
CAPTION_PX = 26
GAP_PX = 6
SHOWN_MASKS = 60  # best masks drawn per panel; more would hide the picture
FILL = 0.45


def overlay(rgb: np.ndarray, masks: MaskSet, n_shown: int = SHOWN_MASKS) -> np.ndarray:
    """(H, W, 3) uint8 picture with the best masks filled and outlined, large ones below small ones."""
    canvas = rgb.astype(np.float32)
    best = masks.masks[:n_shown]
    order = np.argsort(-areas([m.rle for m in best]), kind="stable")
    decoded = {int(k): decode(best[k].rle) for k in order}
    for k, mask in decoded.items():
        canvas[mask] = (1 - FILL) * canvas[mask] + FILL * _colour(k)
    shown = np.ascontiguousarray(canvas.astype(np.uint8))
    for k, mask in decoded.items():
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(shown, contours, -1, _colour(k).tolist(), 1)
    return shown


def picture(layout: Layout, dataset: str, image_id: str) -> np.ndarray:
    """(h, w, 3) uint8: RGB | the masks of each branch | fused label, counts below.

    CubeError or MaskFileError if one of the files is missing or damaged.
    """
    rgb = open_cube(layout.cube(dataset, image_id)).rgb
    panels = [_panel(rgb, f"{dataset}/{image_id}"[-38:])]
    document = read_document(layout.label(dataset, image_id))
    for branch in document["provenance"]["branches"]:
        masks = read_masks(layout.masks(branch, dataset, image_id))
        panels.append(_panel(overlay(_fitted(rgb), _scaled(masks, rgb)), f"{branch}: {len(masks)} masks"))
    label = masks_of(document)
    agreed = sum(len(m.votes) > 1 for m in label.masks)
    panels.append(_panel(overlay(_fitted(rgb), _scaled(label, rgb)), f"fused: {len(label)}, {agreed} by 2+ branches"))
    gap = np.full((panels[0].shape[0], GAP_PX, 3), 255, np.uint8)
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)


def encode_png(image: np.ndarray) -> bytes:
    """PNG file content of an (H, W, 3) uint8 RGB picture."""
    return bytes(cv2.imencode(".png", image[:, :, ::-1])[1].tobytes())


def _colour(k: int) -> np.ndarray:
    """(3,) float RGB; neighbouring ranks differ by the golden angle."""
    return np.array(colorsys.hsv_to_rgb(k * 0.618034 % 1.0, 0.75, 1.0)) * 255


def _fitted(rgb: np.ndarray) -> np.ndarray:
    """The picture enlarged or reduced to the panel's width."""
    scale = PANEL_PX / rgb.shape[1]
    size = (PANEL_PX, max(1, round(rgb.shape[0] * scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA)


def _scaled(masks: MaskSet, rgb: np.ndarray) -> MaskSet:
    """The best masks at the panel's size."""
    height, width = _fitted(rgb).shape[:2]
    small = [
        replace(
            m,
            rle=encode(
                cv2.resize(decode(m.rle).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
            ),
        )
        for m in masks.masks[:SHOWN_MASKS]
    ]
    return MaskSet(height, width, tuple(small))


def _panel(image: np.ndarray, caption: str) -> np.ndarray:
    fitted = _fitted(image) if image.shape[1] != PANEL_PX else image
    strip = np.full((CAPTION_PX, PANEL_PX, 3), 255, np.uint8)
    cv2.putText(strip, caption, (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 1, cv2.LINE_AA)
    return np.concatenate([fitted, strip], axis=0)
