"""Trackers: from the box of a first frame to a box in every frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hvtrain.backbones.contract import Backbone
from hvtrain.downstream.sequences import Frames, Track, require_inside
from hvtrain.downstream.track_crops import clipped, cut, window_of
from hvtrain.heads.center import CentreHead


class Tracker(ABC):
    """Follows one object. `start` begins a new sequence."""

    @abstractmethod
    def start(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Look at the object in the first frame (C, H, W); its box (4,) px."""

    @abstractmethod
    def follow(self, frame: np.ndarray) -> np.ndarray:
        """(4,) x, y, w, h px in the next frame (C, H, W)."""


def track(sequence: Track, frames: Frames, tracker: Tracker) -> np.ndarray:
    """(T, 4) float64 boxes of all frames, the first as given; RawFileError if that lies outside the frame."""
    first = frames.of(sequence, 0)
    _, height, width = first.shape
    require_inside(sequence, (height, width))
    boxes = [sequence.boxes_xywh[0]]
    tracker.start(first, boxes[0])
    for k in range(1, len(sequence)):
        boxes.append(tracker.follow(frames.of(sequence, k)))
    return np.stack(boxes)


class Stay(Tracker):
    """The box of the first frame, whatever happens: what any tracker has to beat."""

    def start(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """As the contract says."""
        self._box = box_xywh

    def follow(self, frame: np.ndarray) -> np.ndarray:
        """As the contract says."""
        return self._box


class CropEncoder:
    """Crops to maps of a frozen backbone, with one scale of values for a whole sequence.

    factor : side of a crop in roots of the box's area
    """

    def __init__(self, network: Backbone, wavelengths_nm: Sequence[float], brightest: float, factor: float) -> None:
        self._network, self._bands = network, list(wavelengths_nm)
        self.factor, self.side_px = factor, network.side_px
        self._brightest = brightest

    def __call__(self, crops: Tensor) -> list[Tensor]:
        """Maps (B, D_i, h, w) float32 of crops (B, C, n, n) of stored values."""
        device = next(self._network.parameters()).device
        x = crops.to(device)
        if self._network.input_range == "unit_max":
            x = (x / self._brightest).clamp(max=1)  # a glint must not be more than the network has ever been shown
        with torch.no_grad():
            gsd_m = [1.0] * len(x)  # not known of crops
            maps = self._network.encode(x, self._bands, gsd_m)
        return [of_scale.float() for of_scale in maps]


class CentreTracker(Tracker):
    """A finished centre head: the best cell of a search crop around the last box, the middle preferred."""

    def __init__(self, head: CentreHead, encoder: CropEncoder) -> None:
        self._head, self._encoder = head, encoder
        # a Hann window without its two zeros: cells at the edge are less likely, not impossible
        inner = np.hanning(head.grid + 2)[1:-1]
        hann = torch.from_numpy(inner).float()
        self._window = torch.outer(hann, hann)  # (g, g)

    @torch.no_grad()
    def start(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Keep the template."""
        self._box = np.asarray(box_xywh, np.float64)
        window = window_of(self._box, self._encoder.factor)
        crop = cut(frame, window, self._encoder.side_px)
        maps = self._encoder(crop[None])
        self._template = self._head.template(maps)

    @torch.no_grad()
    def follow(self, frame: np.ndarray) -> np.ndarray:
        """As the contract says."""
        window = window_of(self._box, self._encoder.factor)
        crop = cut(frame, window, self._encoder.side_px)
        of_search = self._encoder(crop[None])
        maps = self._head(self._template, of_search)
        weighted = maps.score * self._window.to(maps.score)
        best = weighted.flatten(1).argmax(dim=1)
        shares = maps.boxes_at(best)[0].cpu().numpy()
        box = window.in_frame(shares)
        _, height, width = frame.shape
        self._box = clipped(box, (height, width))
        return self._box
