"""One picture per image: RGB, the masks of each branch, the fused label."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from hvlabel.cube import open_cube
from hvlabel.layout import Layout
from hvlabel.masks import MaskSet, decode, masks_of, read_document, read_masks

PANEL_PX = 320
CAPTION_PX = 26
CAPTION_CHARACTERS = 38  # that fit below a panel
GAP_PX = 6
SHOWN_MASKS = 60  # best masks drawn per panel; more would hide the picture
FILL = 0.45


def overlay(rgb: np.ndarray, masks: MaskSet, n_shown: int = SHOWN_MASKS) -> np.ndarray:
    """(H, W, 3) uint8 picture with the best masks filled and outlined, large ones below small ones.

    rgb : (H, W, 3) uint8, of the masks' size
    """
    return _drawn(rgb, [decode(rle) for rle in masks.rles[:n_shown]])


def _drawn(rgb: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """(H, W, 3) uint8 picture with (H, W) bool masks on it, each in the colour of its place among them."""
    areas_px = [np.count_nonzero(mask) for mask in masks]
    area_px = np.array(areas_px)
    largest_first = np.argsort(-area_px, kind="stable").tolist()
    canvas = rgb.astype(np.float32)
    for k in largest_first:
        # most masks are small: their box is a fraction of the picture
        x, y, width, height = cv2.boundingRect(masks[k].view(np.uint8))
        box = np.s_[y : y + height, x : x + width]
        inside, below = masks[k][box], canvas[box]
        below[inside] = (1 - FILL) * below[inside] + FILL * colour_of(k)
    picture = np.ascontiguousarray(canvas.astype(np.uint8))
    for k in largest_first:
        contours, _ = cv2.findContours(masks[k].view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, colour_of(k).tolist(), 1)
    return picture


def picture(layout: Layout, dataset: str, image_id: str) -> np.ndarray:
    """(h, w, 3) uint8: RGB | the masks of each branch | fused label, counts below.

    CubeError or MaskFileError if one of the files is missing or damaged.
    """
    cube = open_cube(layout.cube(dataset, image_id))
    rgb = _fitted(cube.rgb)
    panels = [_panel(rgb, f"{dataset}/{image_id}"[-CAPTION_CHARACTERS:])]
    document = read_document(layout.label(dataset, image_id))
    for branch in document["provenance"]["branches"]:
        masks = read_masks(layout.masks(branch, dataset, image_id))
        panels.append(_panel(_on_panel(rgb, masks), f"{branch}: {len(masks)} masks"))
    label = masks_of(document)
    agreed = sum(len(m.votes) > 1 for m in label.masks)
    panels.append(_panel(_on_panel(rgb, label), f"fused: {len(label)}, {agreed} by 2+ branches"))
    gap = np.full((panels[0].shape[0], GAP_PX, 3), 255, np.uint8)
    parts: list[np.ndarray] = []
    for panel in panels:
        parts += [panel, gap]
    return np.concatenate(parts[:-1], axis=1)  # no gap after the last


def fitted_overlay(rgb: np.ndarray, masks: MaskSet, width_px: int) -> np.ndarray:
    """(h, w, 3) uint8 picture with the best masks, enlarged or reduced to a width. rgb: (H, W, 3) uint8."""
    return _on_panel(_fitted(rgb, width_px), masks)


def encode_png(image: np.ndarray) -> bytes:
    """PNG file content of an (H, W, 3) uint8 RGB picture."""
    bgr = image[:, :, ::-1]  # OpenCV writes blue first
    _, content = cv2.imencode(".png", bgr)
    return bytes(content.tobytes())


def colour_of(k: int) -> np.ndarray:
    """(3,) float RGB; neighbouring ranks differ by the golden angle."""
    hue = k * 0.618034 % 1.0  # of a turn
    rgb = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return np.array(rgb) * 255


def _fitted(rgb: np.ndarray, width_px: int = PANEL_PX) -> np.ndarray:
    """The picture enlarged or reduced to a width."""
    scale = width_px / rgb.shape[1]
    height_px = max(1, round(rgb.shape[0] * scale))
    # enlarged, pixels stay to be seen; reduced, none is left out
    interpolation = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    return cv2.resize(rgb, (width_px, height_px), interpolation=interpolation)


def _on_panel(fitted_rgb: np.ndarray, masks: MaskSet) -> np.ndarray:
    """The fitted picture with the best masks, brought to its size."""
    height, width = fitted_rgb.shape[:2]
    best = [decode(rle).astype(np.uint8) for rle in masks.rles[:SHOWN_MASKS]]
    scaled = [cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) > 0 for mask in best]
    return _drawn(fitted_rgb, scaled)


def _panel(fitted: np.ndarray, caption: str) -> np.ndarray:
    """A picture of the panel's width with a line of text below."""
    strip = np.full((CAPTION_PX, PANEL_PX, 3), 255, np.uint8)
    cv2.putText(strip, caption, (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 1, cv2.LINE_AA)
    return np.concatenate([fitted, strip], axis=0)
