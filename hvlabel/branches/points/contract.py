"""What turns points into masks is given, and what it gives: a network, a crop, the crop's survivors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from hvlabel.config import GeneratorSettings
from hvlabel.masks import Rle
from hvlabel.models.batches import Ceilings, What, in_batches
from hvlabel.models.two_way import DecodedMasks

CROP_EDGE_TOL_PX = 20.0  # as published

T = TypeVar("T")
BoxPx = tuple[int, int, int, int]  # x0, y0, x1, y1


class PromptModel(Protocol):
    """A network that embeds an image once and decodes point prompts on it.

    slack_cells : of its low-resolution logits, by which upscale may move an edge beside interpolating between them once
    """

    ceilings: Ceilings
    slack_cells: float

    def embed(self, image: np.ndarray) -> Any:
        """Embedding of an (H, W, C) image."""

    def decode(
        self, embedding: Any, points_xy: np.ndarray, masks: Tensor | None = None, *, multimask: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, M, h, w) and predicted IoU (N, M) of (N, 2) float64 foreground points, px of the image."""

    def decode_above(self, embedding: Any, points_xy: np.ndarray, min_iou: float | None) -> DecodedMasks:
        """Of three masks per point those above a predicted IoU (None: all)."""

    def upscale(self, logits: Tensor, embedding: Any) -> Tensor:
        """(N, h, w) low-resolution logits -> (N, H, W) float32 of the image."""

    def covered_hw(self, logits: Tensor, embedding: Any) -> tuple[float, float]:
        """Rows and columns of low-resolution logits (N, h, w) that the image takes, the last perhaps in part.

        The rest is padding.
        """


@dataclass(frozen=True)
class CropBox:
    """A part of an image.

    box_xyxy : px, ends excluded
    image_hw : (height, width) px of the whole image
    """

    box_xyxy: BoxPx
    image_hw: tuple[int, int]

    @property
    def corner_xy(self) -> tuple[int, int]:
        """Its upper left pixel, px of the whole image."""
        return self.box_xyxy[0], self.box_xyxy[1]

    def scaled(self, grid: np.ndarray) -> np.ndarray:
        """(N, 2) x, y in (0, 1) -> px of the crop."""
        x0, y0, x1, y1 = self.box_xyxy
        size_xy = np.array([x1 - x0, y1 - y0])
        return grid * size_xy

    def cuts(self, boxes_xyxy: Tensor) -> Tensor:
        """(K,) whether a box (K, 4) of the whole image comes near an edge of the crop that is no edge of the image."""
        boxes = boxes_xyxy.float()
        height, width = self.image_hw
        crop_edges = boxes.new_tensor(self.box_xyxy)
        image_edges = boxes.new_tensor((0, 0, width, height))
        near_crop = (boxes - crop_edges).abs() <= CROP_EDGE_TOL_PX  # (K, 4) per edge
        near_image = (boxes - image_edges).abs() <= CROP_EDGE_TOL_PX
        return (near_crop & ~near_image).any(dim=1)

    def in_image(self, masks: np.ndarray) -> np.ndarray:
        """(K, h, w) masks of the crop -> (K, H, W)."""
        x0, y0, x1, y1 = self.box_xyxy
        if (y1 - y0, x1 - x0) == self.image_hw:
            return masks
        shape = (len(masks), *self.image_hw)
        full = np.zeros(shape, bool)
        full[:, y0:y1, x0:x1] = masks
        return full


@dataclass(frozen=True)
class CropRun:
    """One crop on its way to masks. embedding: the model's, of the crop."""

    model: PromptModel
    embedding: Any
    crop: CropBox
    settings: GeneratorSettings

    def in_batches(self, n: int, what: What, call: Callable[[slice], T]) -> Iterator[T]:
        """call(part) for consecutive parts of range(n), of a size that the device's memory allows."""
        for _, result in in_batches(n, self.settings.points_per_batch, self.model.ceilings, what, call):
            yield result


@dataclass
class Survivors:
    """Parallel lists of the masks that are left.

    boxes  : (4,) px of the whole image, x0 y0 x1 y1 with inclusive ends
    points : px of the whole image
    crops  : box of the crop that each comes from
    """

    rles: list[Rle] = field(default_factory=list)
    boxes: list[Tensor] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    stability: list[float] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)
    crops: list[BoxPx] = field(default_factory=list)

    def extend(self, other: Survivors) -> None:
        """Put others behind these."""
        for name, values in vars(other).items():
            getattr(self, name).extend(values)

    def suppressed(self, scores: Tensor, iou_threshold: float) -> Survivors:
        """Those that box NMS leaves, best score first. scores: (K,)."""
        # stack takes no empty list; nms takes floats only
        boxes = torch.stack(self.boxes).float() if self.boxes else torch.zeros(0, 4)
        kept_idx = nms(boxes, scores, iou_threshold)
        return self._take(kept_idx.tolist())

    def _take(self, order: list[int]) -> Survivors:
        """These alone, in this order."""
        chosen = Survivors()
        for name, values in vars(self).items():
            getattr(chosen, name).extend(values[k] for k in order)
        return chosen
