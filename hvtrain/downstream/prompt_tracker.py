"""Tracking by prompts, without any training: the last box asks for a mask, the box around that is the next one."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor

from hvtrain.downstream.track_crops import clipped
from hvtrain.downstream.tracker import Tracker

GROWN = 0.25  # by which the last box is larger on each side when it asks: the object has moved
LEAST_SHARE = 0.25  # of the last box's area that a mask fills, or it is no sight of the object
GAMMA = 1 / 2.2  # linear colours as SAM's pictures show them


class BoxPrompts(Protocol):
    """What answers boxes with masks: SamPredictor, or the predictor of another prompted network."""

    def embed(self, image: np.ndarray) -> Any:
        """Of an (H, W, 3) picture, float in [0, 1]."""
        ...

    def decode_clear(self, embedding: Any, boxes_xyxy: np.ndarray) -> tuple[Tensor, Tensor]:
        """Logits (N, h, w) and predicted IoU (N,) of boxes (N, 4), px."""
        ...

    def upscale(self, logits: Tensor, embedding: Any) -> Tensor:
        """(N, H, W) logits at the size of the image."""
        ...


class PromptTracker(Tracker):
    """Follows by masks of a promptable network on colours; frames (3, H, W), linear.

    brightest : value of a frame that is 1
    """

    def __init__(self, predictor: BoxPrompts, brightest: float) -> None:
        self._predictor, self._brightest = predictor, brightest

    def start(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """The first box needs no look at the frame."""
        self._box = np.asarray(box_xywh, np.float64)

    def follow(self, frame: np.ndarray) -> np.ndarray:
        """The box around the mask; the last box where there is no mask to speak of."""
        linear = np.nan_to_num(frame) / self._brightest
        levels = np.clip(linear, 0, 1) ** GAMMA
        picture = levels.transpose(1, 2, 0)  # (H, W, 3)
        embedding = self._predictor.embed(picture)
        x, y, width, height = self._box
        first_xy = x - GROWN * width, y - GROWN * height
        last_xy = x + (1 + GROWN) * width, y + (1 + GROWN) * height
        grown = np.array([*first_xy, *last_xy])
        logits, _ = self._predictor.decode_clear(embedding, grown[None])
        at_size = self._predictor.upscale(logits, embedding)
        mask = at_size[0].cpu().numpy() > 0  # (H, W)
        # a negative end would be counted from the far side
        left, top, right, bottom = np.round(grown).astype(int).clip(min=0)
        # what lies beyond the prompt is another thing of the same colour
        near = np.zeros_like(mask)
        near[top:bottom, left:right] = True
        rows, columns = np.nonzero(mask & near)
        if len(rows) < LEAST_SHARE * width * height:
            return self._box
        mask_width, mask_height = np.ptp(columns) + 1, np.ptp(rows) + 1
        box = np.array([columns.min(), rows.min(), mask_width, mask_height], np.float64)
        _, frame_height, frame_width = frame.shape
        self._box = clipped(box, (frame_height, frame_width))
        return self._box
