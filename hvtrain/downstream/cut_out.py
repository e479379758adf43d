"""Parts of images that no cache holds: cut out, mirrored, each band brighter or darker, and encoded anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hvtrain.downstream.dense_inputs import network_values
from hvtrain.downstream.frozen import Frozen
from hvtrain.downstream.images import TaskImage
from hvtrain.downstream.saliency_file import SaliencyAugmentSettings


@dataclass(frozen=True)
class CutOut:
    """Parts of one size of B images.

    last      : (B, D, h, w) float32, the backbone's last map
    stride_px : px of the image along a side of its cell
    truth     : (B, H', W') uint8
    """

    last: Tensor
    stride_px: float
    truth: Tensor


def cut_out(
    images: Sequence[TaskImage],
    truths: Sequence[Tensor],
    shown: str,
    backbone: Frozen,
    augment: SaliencyAugmentSettings,
    rng: np.random.Generator,
) -> CutOut:
    """A part of each of some images of one size; parts of a batch are equally large, each at a place of its own.

    truths : (H, W) uint8 of each image
    """
    height, width = truths[0].shape
    share = rng.uniform(augment.crop, 1)
    part_height = max(1, round(share * height))
    part_width = max(1, round(share * width))
    lasts, cut_truths = [], []
    stride_px = 1.0
    for image, truth in zip(images, truths, strict=True):
        box = _somewhere((part_height, part_width), (height, width), rng)
        every = image.settings.every_px
        values, wavelengths_nm = network_values(image.cube, shown, every, box)
        # another light, or another camera of the same bands
        gains = rng.normal(1.0, augment.gain_sd, (len(values), 1, 1))
        part = values * gains.astype(np.float32)  # (C, H', W')
        of_part = truth[box]
        if rng.random() < augment.flip:
            part = part[:, :, ::-1]
            of_part = of_part.flip(-1)
        maps = backbone.maps(part, wavelengths_nm, image.settings.gsd_m * every)
        lasts.append(maps[-1][0].half())  # the precision in which all other images are seen
        cut_truths.append(of_part)
        stride_px = maps.strides_px[-1]  # parts of one size have one
    last = torch.stack(lasts).float()  # (B, D, h, w)
    return CutOut(last, stride_px, torch.stack(cut_truths))


def _somewhere(size_px: tuple[int, int], of_px: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a part of a size (h, w) at a random place in an image (H, W)."""
    height, width = size_px
    last_top, last_left = of_px[0] - height, of_px[1] - width
    top = int(rng.integers(last_top + 1))
    left = int(rng.integers(last_left + 1))
    return slice(top, top + height), slice(left, left + width)
