"""Pairs of template and search crop that a tracking head learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hvtrain.downstream.sequences import Frames, Track
from hvtrain.downstream.track_crops import Window, cut, window_around, window_of
from hvtrain.downstream.track_file import PairSettings

TRIES = 10  # of a search crop that lies wholly outside the frame


@dataclass(frozen=True)
class Pair:
    """One pair.

    template, search : (C, n, n) float32
    box              : (4,) centre x, y, width, height of the object in the search crop, shares of its side
    levels           : (2,) what is 1 in each, for a network that takes values up to 1
    is_same          : whether the template shows the object of the search crop
    """

    template: Tensor
    search: Tensor
    box: np.ndarray
    levels: tuple[float, float]
    is_same: bool = True


def draw_pair(
    track: Track, frames: Frames, settings: PairSettings, factor: float, side_px: int, rng: np.random.Generator
) -> Pair:
    """A pair of two frames in which the object is; the search crop is off by a random shift and scale."""
    first = int(rng.choice(track.visible))
    # far apart an object may look like another one
    n_apart = np.abs(track.visible - first)
    near = track.visible[n_apart <= settings.apart]
    second = int(rng.choice(near))
    around = window_of(track.boxes_xywh[first], factor)
    template = cut(frames.of(track, first), around, side_px)
    frame = frames.of(track, second)
    box = track.boxes_xywh[second]
    size_px = (frame.shape[1], frame.shape[2])
    window = _jittered(box, settings, factor, size_px, rng)
    search = cut(frame, window, side_px)
    shares = window.shares(box)
    if rng.random() < settings.flip:
        template = template.flip(-1)
        search = search.flip(-1)
        shares[0] = 1 - shares[0]  # of the centre x; sizes stay
    n_bands = len(search)
    # gains per band are another camera or light, the same in both frames; the common one is a cloud between them
    of_bands = rng.normal(1, settings.band_gain_sd, (n_bands, 1, 1))
    band_gain = torch.from_numpy(of_bands).float()
    gain = float(rng.uniform(1 - settings.gain, 1 + settings.gain))
    level = frames.brightest(track)
    template = template * band_gain
    search = search * band_gain * gain
    return Pair(template, search, shares, (level, level))


def with_template_of(pair: Pair, other: Pair) -> Pair:
    """A search crop beside the template of another sequence's pair: nothing in it is to be followed."""
    levels = (other.levels[0], pair.levels[1])  # each crop keeps the scale of its sequence
    return replace(pair, template=other.template, levels=levels, is_same=False)


def _jittered(
    box: np.ndarray, settings: PairSettings, factor: float, size_px: tuple[int, int], rng: np.random.Generator
) -> Window:
    """The window of a box that is off; one that touches the frame (H, W)."""
    x, y, width, height = (float(value) for value in box)
    for _ in range(TRIES):
        scale_x, scale_y = np.exp(rng.normal(0, settings.scale, 2))
        drawn_width, drawn_height = width * scale_x, height * scale_y
        reach_px = settings.shift * np.sqrt(drawn_width * drawn_height)
        shift_x, shift_y = (rng.random(2) - 0.5) * reach_px
        centre_xy = (x + width / 2 + shift_x, y + height / 2 + shift_y)
        window = window_around(centre_xy, (drawn_width, drawn_height), factor)
        if window.touches(size_px):
            return window
    return window_of(box, factor)  # not off at all: a crop beside the frame would be zeros
