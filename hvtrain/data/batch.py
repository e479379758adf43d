"""A batch: what one step of training looks at."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from hvtrain.data.feature_maps import FeatureMaps


class Batch(SimpleNamespace):
    """B samples of one camera, with K masks each if an objective needs masks. A field that nobody needs is absent.

    It is no dataclass: training engines cast the floats of one to half precision, coordinates too.

    step           : of the training
    source         : what the samples were taken from, for the log
    names          : image of each sample
    problems       : sentences about images that could not be read and were replaced
    wavelengths_nm : (C,) band centres in the order of the cube's channels
    cube           : (B, C, s, s) values, s in px of the cube
    flips          : (B, 2) bool, cube to be mirrored along y and x; masks, prompts and tokens already are
    zoom           : (B,) float32 px of the cube per px of the network's input
    gsd_m          : (B,) float32 m per px of the network's input
    position       : (B,) int64 position of each sample in its step's batch
    masks          : (B, K, L, L) bool at the decoder's output size
    weights        : (B, K) float32, 0 where a prompt asks for no object
    points_xy      : (B, K, 2) float32 px of the network's input, inside the mask
    boxes_xyxy     : (B, K, 4) float32 px of the network's input
    boxed          : the step begins with boxes instead of points
    uniform        : (R, B * K) float32 in [0, 1), which of the wrong pixels the correction of each round points at
    teacher        : (B, g, g, D) float16 tokens of a frozen network
    features       : what the student makes of the cube; set by the training, not by the data
    """

    step: int
    source: str
    names: tuple[str, ...]
    problems: tuple[str, ...]
    wavelengths_nm: tuple[float, ...]
    cube: Tensor
    flips: Tensor
    zoom: Tensor
    gsd_m: Tensor
    position: Tensor
    masks: Tensor
    weights: Tensor
    points_xy: Tensor
    boxes_xyxy: Tensor
    boxed: bool
    uniform: Tensor
    teacher: Tensor
    features: FeatureMaps

    def __len__(self) -> int:
        return len(self.names)

    def pin_memory(self) -> Batch:
        """The same in page-locked memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """The same on a device; the copy does not wait."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        fields = dict(vars(self))
        for name, value in fields.items():
            if isinstance(value, Tensor):
                fields[name] = change(value)
        return type(self)(**fields)


def mirrored(array: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """An (H, W, ...) array mirrored along y and along x where `flips` (2,) bool says so; a view."""
    step_y, step_x = (-1 if flip else 1 for flip in flips)
    return array[::step_y, ::step_x]
