"""A tracker by the heads that say where the sides of a box are: the best point, and a size that changes slowly."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hvtrain.downstream.track_crops import LEAST_PX, clipped, cut, window_of
from hvtrain.downstream.track_file import FollowSettings
from hvtrain.downstream.tracker import CropEncoder, Tracker
from hvtrain.heads.car import CarHead
from hvtrain.heads.sides import OBJECT, SideMaps
from hvtrain.heads.xcorr import XCorrHead


class SideTracker(Tracker):
    """A finished xcorr or car head on the crop around the last box; sizes that change little are preferred."""

    def __init__(self, head: XCorrHead | CarHead, encoder: CropEncoder, follow: FollowSettings) -> None:
        self._head, self._encoder, self._follow = head, encoder, follow

    @torch.no_grad()
    def start(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Keep the template."""
        self._box = np.asarray(box_xywh, np.float64)
        maps = self._encoder(self._crop(frame))
        self._template: Any = self._head.template(maps)

    @torch.no_grad()
    def follow(self, frame: np.ndarray) -> np.ndarray:
        """As the contract says."""
        window = window_of(self._box, self._encoder.factor)
        of_search = self._encoder(self._crop(frame))
        maps = self._head(self._template, of_search)
        size = self._box[2:]
        shares, rate = chosen(maps, size / window.side, self._follow)
        box = window.in_frame(shares)
        centre = box[:2] + box[2:] / 2
        # the place is taken as it is, the size only in part: one wrong box would spoil every crop after it
        size = (1 - rate) * size + rate * box[2:]
        _, height, width = frame.shape
        size_px = (height, width)
        # kept whole, said clipped: an object that leaves the frame in part keeps its size
        self._box = _bounded(centre, size, size_px)
        return clipped(self._box, size_px)

    def _crop(self, frame: np.ndarray) -> torch.Tensor:
        """(1, C, n, n) around the last box."""
        window = window_of(self._box, self._encoder.factor)
        return cut(frame, window, self._encoder.side_px)[None]


def chosen(maps: SideMaps, size: np.ndarray, follow: FollowSettings) -> tuple[np.ndarray, float]:
    """(4,) centre x, y, width, height of the best box of one crop, and the share of its size to be taken over.

    size : (2,) last width and height; all lengths are shares of the crop's side
    """
    boxes = maps.corners[0].cpu().numpy().astype(np.float64)  # (m, m, 4)
    of_object = maps.logits[0].softmax(dim=0)[OBJECT]
    score = of_object.cpu().numpy().astype(np.float64)  # (m, m)
    new_sizes = boxes[..., 2:] - boxes[..., :2]
    change = _changes(new_sizes, size) - 1  # 0 where nothing changes
    penalty = np.exp(-follow.penalty * change)
    likely = penalty * score
    if maps.centreness is not None:
        centreness = maps.centreness[0].sigmoid().cpu().numpy()
        likely = likely * _stretched(centreness)
    hann = np.hanning(len(score))
    middle = np.outer(hann, hann)  # (m, m)
    # added, not multiplied: a sure object at the edge still wins over nothing in the middle
    likely = likely * (1 - follow.window) + middle * follow.window
    best = np.unravel_index(likely.argmax(), likely.shape)
    low_xy, high_xy = boxes[best][:2], boxes[best][2:]
    shares = np.concatenate([(low_xy + high_xy) / 2, high_xy - low_xy])
    # an unsure box, or one that changed much, changes the size little
    rate = penalty[best] * score[best] * follow.rate
    return shares, float(rate)


def _changes(new_sizes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(m, m) how much size and shape change, 1 where they stay. new_sizes: (m, m, 2) width, height."""
    of_size = _ratio(_extent(new_sizes) / _extent(size))
    shape = size[0] / size[1]
    new_shapes = new_sizes[..., 0] / new_sizes[..., 1]
    return of_size * _ratio(shape / new_shapes)


def _extent(sizes: np.ndarray) -> np.ndarray:
    """Side of the square of as much context as a box of width and height (..., 2) is given in Siamese trackers."""
    context = sizes.mean(axis=-1, keepdims=True)
    return np.sqrt((sizes + context).prod(axis=-1))


def _ratio(change: np.ndarray) -> np.ndarray:
    """Of a change, whether it grows or shrinks."""
    return np.maximum(change, 1 / change)


def _stretched(values: np.ndarray) -> np.ndarray:
    """From 0 to 1; ones where all values are equal and tell nothing."""
    span = np.ptp(values)
    if not span > 0:
        return np.ones_like(values)
    return (values - values.min()) / span


def _bounded(centre: np.ndarray, size: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """(4,) x, y, w, h px: the centre in a frame (H, W), sides from LEAST_PX to the frame's."""
    limits = np.array(size_px[::-1], np.float64)  # (2,) along x and y
    centre = np.clip(centre, 0, limits)
    least = np.minimum(LEAST_PX, limits)
    size = np.clip(size, least, limits)
    return np.concatenate([centre - size / 2, size])
