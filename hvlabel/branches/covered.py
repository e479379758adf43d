"""Grid points that need no decoding: neighbours in one object give the same masks again.

A point counts as covered once for every decoded point whose smallest confident mask holds it, if the picture looks
there as it does inside that mask. The look is what keeps parts: a badge on a coat lies in the coat's mask and has
another colour.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

SURE_IOU, SURE_STABILITY = 0.8, 0.9  # of masks that cover
LIKE_DEVIATIONS = 1.0  # of a mask's values around their mean, in every channel
LIKE_FLOOR = 0.008  # share of the picture's range that is no difference in any case: two grey levels
RASTER_PX = 256  # longest side of the raster on which looks are compared
ROUNDS = 4


def rounds(n_points: int) -> list[np.ndarray]:
    """Indices of a square grid's points, coarse to fine: every fourth, every second, then the two diagonals' rest."""
    side = round(n_points**0.5)
    row, column = np.divmod(np.arange(n_points), side)
    diagonal = (row % 2) == (column % 2)
    every_second = (row % 2 == 1) & (column % 2 == 1)
    every_fourth = (row % 4 == 1) & (column % 4 == 1)
    level = np.full(n_points, ROUNDS - 1)
    # each line takes its points from the one before
    level[diagonal] = 2
    level[every_second] = 1
    level[every_fourth] = 0
    return [np.flatnonzero(level == k) for k in range(ROUNDS)]


class CoveredPoints:
    """How often each grid point of a picture is covered.

    points_xy : (N, 2) px of the picture
    picture   : (H, W, C), any unit
    """

    def __init__(self, points_xy: np.ndarray, picture: np.ndarray) -> None:
        height, width = picture.shape[:2]
        scale = RASTER_PX / max(height, width)
        rows = max(1, round(height * scale))
        columns = max(1, round(width * scale))
        self._raster_hw = (rows, columns)
        as_float = picture.astype(np.float32)
        size = (columns, rows)  # OpenCV takes the width first
        small = cv2.resize(as_float, size, interpolation=cv2.INTER_AREA)
        blurred = cv2.blur(small, (3, 3))  # so that the grain of one cell is no look
        self._look = blurred.reshape(rows * columns, -1)  # (cells, C)
        self._floor = LIKE_FLOOR * float(np.ptp(self._look))
        x = points_xy[:, 0] * columns / width
        y = points_xy[:, 1] * rows / height
        column = np.minimum(x, columns - 1).astype(int)
        row = np.minimum(y, rows - 1).astype(int)
        self._cells = row * columns + column  # (N,) the cell of each point
        self.counts = np.zeros(len(points_xy), int)

    def open_points(self, among: np.ndarray, enough: int) -> np.ndarray:
        """Those of some indices that fewer than `enough` masks cover."""
        return among[self.counts[among] < enough]

    def note(self, masks: np.ndarray, iou: np.ndarray, stability: np.ndarray, prompt: np.ndarray) -> None:
        """Count what new masks cover: of each prompt the smallest confident one.

        masks          : (K, h, w) bool of the whole picture, at any resolution
        iou, stability : (K,) predicted IoU and stability
        prompt         : (K,) which point each came from
        """
        is_sure = (iou > SURE_IOU) & (stability >= SURE_STABILITY)
        sure = np.flatnonzero(is_sure)
        area = masks[sure].sum(axis=(1, 2))
        by_prompt_then_area = np.lexsort((area, prompt[sure]))  # lexsort's last key counts first
        smallest_first = sure[by_prompt_then_area]
        _, first_of_prompt = np.unique(prompt[smallest_first], return_index=True)
        self.cover(masks[smallest_first[first_of_prompt]])

    def cover(self, masks: Iterable[np.ndarray], times: int = 1) -> None:
        """Count the points inside (h, w) bool masks of the whole picture that look like the rest of the mask."""
        rows, columns = self._raster_hw
        for mask in masks:
            as_bytes = mask.view(np.uint8)  # OpenCV has no bool
            # nearest: cells stay 0 or 1
            small = cv2.resize(as_bytes, (columns, rows), interpolation=cv2.INTER_NEAREST)
            inside = small.ravel() > 0
            if not inside.any():
                continue
            look = self._look[inside]
            tolerance = LIKE_DEVIATIONS * look.std(axis=0) + self._floor  # (C,)
            mean = look.mean(axis=0)  # (C,)
            under_points = self._look[self._cells]  # (N, C)
            distance = np.abs(under_points - mean)
            is_alike = (distance <= tolerance).all(axis=1)
            is_covered = inside[self._cells] & is_alike  # (N,)
            self.counts += times * is_covered
