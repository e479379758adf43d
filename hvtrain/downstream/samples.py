"""Samples of a dense task: what a head sees of an image and the labels of its pixels, kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.downstream.dense_inputs import Input, PseudoRgbSettings, picture_of
from hvtrain.downstream.feature_cache import FeatureCache
from hvtrain.downstream.images import TaskImage

MEMORY_BYTES = 2 << 30  # of samples kept; what does not fit is read again


@dataclass(frozen=True)
class Sample:
    """One image, mirrored or not.

    picture   : (C, H, W) float32, or none
    maps      : (D, h, w) float16 each, the deepest last
    stride_px : px of the image along a side of the last map's cell
    labels    : (H, W) uint8
    """

    picture: Tensor | None
    maps: tuple[Tensor, ...]
    stride_px: float
    labels: Tensor

    @property
    def form(self) -> tuple[tuple[int, ...], ...]:
        """Shapes: samples of one form can be in one batch."""
        return tuple(tuple(tensor.shape) for tensor in self._tensors)

    @property
    def n_bytes(self) -> int:
        """In memory."""
        return sum(tensor.nbytes for tensor in self._tensors)

    def mirrored(self) -> Sample:
        """Along x, but for the maps, which a backbone has to make of the mirrored image."""
        picture = None if self.picture is None else self.picture.flip(-1)
        labels = self.labels.flip(-1)
        return Sample(picture, self.maps, self.stride_px, labels)

    @property
    def _tensors(self) -> list[Tensor]:
        """All that it holds."""
        picture = [] if self.picture is None else [self.picture]
        return [*self.maps, self.labels, *picture]


class Samples:
    """Samples of images by name; each is made once, as long as the memory suffices.

    labels : (H, W) uint8 by name
    cache  : maps; none where the input has none
    """

    def __init__(
        self,
        images: Mapping[str, TaskImage],
        labels: Mapping[str, np.ndarray],
        chosen: Input,
        cache: FeatureCache | None,
        rgb: PseudoRgbSettings | None,
        *,
        neck: bool,
    ) -> None:
        self._images, self._labels, self._chosen = images, labels, chosen
        self._cache, self._rgb, self._neck = cache, rgb, neck
        self._kept: dict[tuple[str, bool], Sample] = {}
        self._n_bytes = 0

    def of(self, name: str, *, flipped: bool = False) -> Sample:
        """The sample of an image."""
        kept = self._kept.get((name, flipped))
        if kept is not None:
            return kept
        sample = self._made(name, flipped)
        # no eviction: order is random, the oldest sample is as likely to be next as any other
        if self._n_bytes + sample.n_bytes <= MEMORY_BYTES:
            self._kept[name, flipped] = sample
            self._n_bytes += sample.n_bytes
        return sample

    def _made(self, name: str, flipped: bool) -> Sample:
        image = self._images[name]
        picture = None
        if self._chosen.picture:
            every = image.settings.every_px
            values = picture_of(image.cube, self._chosen.picture, every, self._rgb)
            picture = torch.from_numpy(values)
        maps: tuple[Tensor, ...] = ()
        stride_px = 1.0
        if self._cache is not None:
            of_image = self._cache.maps(image, flipped=flipped)
            taps = taps_of(of_image, neck=self._neck)
            maps = tuple(of_scale[0] for of_scale in taps)  # (D, h, w) each
            stride_px = taps.strides_px[-1]
        labels = torch.from_numpy(self._labels[name])
        sample = Sample(picture, maps, stride_px, labels)
        return sample.mirrored() if flipped else sample


def taps_of(maps: FeatureMaps, *, neck: bool) -> FeatureMaps:
    """The maps that dense heads take: all but the last if that is the prompt decoder's (neck) and there are others."""
    if not neck or len(maps) == 1:
        return maps
    return FeatureMaps(maps.maps[:-1], maps.strides_px[:-1])
