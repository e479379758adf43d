"""Square crops around a box: where they lie, what is in them, and boxes as shares of their side.

Source of the geometry: OSTrack's, but for half a pixel that its boxes are off by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hvtrain.data.inputs import resized

LEAST_PX = 10  # of a side of a box that a tracker says


@dataclass(frozen=True)
class Window:
    """A square of a frame, which may reach beyond it, px."""

    left: int
    top: int
    side: int

    def shares(self, box_xywh: np.ndarray) -> np.ndarray:
        """(4,) centre x, y, width, height of a box of the frame, shares of the side."""
        x, y, width, height = box_xywh
        centre_x = x + width / 2 - self.left
        centre_y = y + height / 2 - self.top
        return np.array([centre_x, centre_y, width, height]) / self.side

    def in_frame(self, shares: np.ndarray) -> np.ndarray:
        """(4,) x, y, w, h px of what `shares` gives."""
        centre_x, centre_y, width, height = np.asarray(shares, np.float64) * self.side
        x = self.left + centre_x - width / 2
        y = self.top + centre_y - height / 2
        return np.array([x, y, width, height])

    def touches(self, size_px: tuple[int, int]) -> bool:
        """Whether some pixel of a frame (H, W) lies in it."""
        height, width = size_px
        is_before_end = self.left < width and self.top < height
        is_behind_start = self.left + self.side > 0 and self.top + self.side > 0
        return is_before_end and is_behind_start


def window_around(centre_xy: tuple[float, float], size_wh: tuple[float, float], factor: float) -> Window:
    """The square around a centre whose side is `factor` roots of a box's area."""
    # a box that shrank to nothing still has a crop
    area_px = max(size_wh[0] * size_wh[1], 1.0)
    side = max(2, math.ceil(math.sqrt(area_px) * factor))
    left = round(centre_xy[0] - side / 2)
    top = round(centre_xy[1] - side / 2)
    return Window(left, top, side)


def window_of(box_xywh: np.ndarray, factor: float) -> Window:
    """The square around a box."""
    x, y, width, height = (float(value) for value in box_xywh)
    centre_xy = (x + width / 2, y + height / 2)
    return window_around(centre_xy, (width, height), factor)


def cut(frame: np.ndarray, window: Window, side_px: int) -> Tensor:
    """(C, n, n) float32 of a window of a frame (C, H, W), zeros outside, resized to n = side_px, bilinear."""
    _, height, width = frame.shape
    rows = _inside(window.top, window.side, height)
    columns = _inside(window.left, window.side, width)
    inside = torch.zeros(len(frame), window.side, window.side)
    if window.touches((height, width)):
        part = np.ascontiguousarray(frame[:, rows, columns], np.float32)
        values = torch.from_numpy(part)
        _, n_rows, n_columns = values.shape
        # where the part lies in the window: not at its corner if that is outside the frame
        top = rows.start - window.top
        left = columns.start - window.left
        inside[:, top : top + n_rows, left : left + n_columns] = torch.nan_to_num(values)
    return resized(inside[None], side_px)[0]


def _inside(first: int, length: int, limit: int) -> slice:
    """The part of a range that lies in [0, limit)."""
    return slice(max(first, 0), min(first + length, limit))


def clipped(box_xywh: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """(4,) a box inside a frame (H, W), at least LEAST_PX a side where the frame has as many."""
    height, width = size_px
    x, w = _clipped_side(box_xywh[0], box_xywh[2], width)
    y, h = _clipped_side(box_xywh[1], box_xywh[3], height)
    return np.array([x, y, w, h], np.float64)


def _clipped_side(low: float, length: float, limit: int) -> tuple[float, float]:
    """Start and length of one side."""
    least = min(LEAST_PX, limit)
    first = min(max(low, 0), limit - least)
    last = max(min(low + length, limit), first + least)
    return first, last - first
