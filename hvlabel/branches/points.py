"""Points to the masks of one crop that survive its filters and its suppression: exactly as published, and faster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from hvlabel.config import GeneratorSettings
from hvlabel.masks import Rle, encode_stack
from hvlabel.masks.rle import boxes_xywh
from hvlabel.models.batches import Ceilings, in_batches
from hvlabel.models.two_way import Masks

CROP_EDGE_TOL_PX = 20.0
STABILITY_MARGIN, NMS_MARGIN = 0.1, 0.97  # of what is decided at low resolution, before it is decided at full size
SURE_FIRST = 1000.0  # above any predicted IoU
POINTS_BETWEEN_NMS = 1024
LOW_RES_CLAMP = 32.0  # SAM2 clamps logits before they become a mask prompt


class PromptModel(Protocol):
    """A network that embeds an image once and decodes point prompts on it."""

    ceilings: Ceilings

    def embed(self, image: np.ndarray) -> Any:
        """Embedding of an (H, W, C) image."""

    def decode(
        self, embedding: Any, points_xy: np.ndarray, masks: Tensor | None = None, *, multimask: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, M, h, w) and predicted IoU (N, M) of (N, 2) float64 foreground points, px of the image."""

    def decode_above(self, embedding: Any, points_xy: np.ndarray, min_iou: float | None) -> Masks:
        """Of three masks per point those above a predicted IoU (None: all)."""

    def upscale(self, logits: Tensor, embedding: Any) -> Tensor:
        """(N, h, w) low-resolution logits -> (N, H, W) float32 of the image."""

    def valid_hw(self, logits: Tensor, embedding: Any) -> tuple[int, int]:
        """Rows and columns of low-resolution logits (N, h, w) that cover the image; what follows is padding."""


@dataclass(frozen=True)
class Crop:
    """A part of an image.

    box      : x0, y0, x1, y1 px, ends excluded
    image_hw : (height, width) px of the whole image
    """

    box: tuple[int, int, int, int]
    image_hw: tuple[int, int]

    def scaled(self, grid: np.ndarray) -> np.ndarray:
        """(N, 2) x, y in (0, 1) -> px of the crop."""
        x0, y0, x1, y1 = self.box
        return grid * np.array([x1 - x0, y1 - y0])

    def cuts(self, boxes: Tensor) -> Tensor:
        """(K,) whether a box (K, 4) of the whole image comes near an edge of the crop that is no edge of the image."""
        here = boxes.float()
        near_crop = (here - here.new_tensor(self.box)).abs() <= CROP_EDGE_TOL_PX
        height, width = self.image_hw
        near_image = (here - here.new_tensor((0, 0, width, height))).abs() <= CROP_EDGE_TOL_PX
        return (near_crop & ~near_image).any(dim=1)

    def in_image(self, masks: np.ndarray) -> np.ndarray:
        """(K, h, w) masks of the crop -> (K, H, W)."""
        x0, y0, x1, y1 = self.box
        if (y1 - y0, x1 - x0) == self.image_hw:
            return masks
        full = np.zeros((len(masks), *self.image_hw), bool)
        full[:, y0:y1, x0:x1] = masks
        return full


@dataclass
class Found:
    """Parallel lists of what survived so far; boxes in px of the whole image, x0 y0 x1 y1 with inclusive ends."""

    rles: list[Rle] = field(default_factory=list)
    boxes: list[Tensor] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    stability: list[float] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)
    crops: list[tuple[int, int, int, int]] = field(default_factory=list)

    def extend(self, other: Found) -> None:
        """Put others behind these."""
        for name, values in vars(other).items():
            getattr(self, name).extend(values)

    def take(self, order: list[int]) -> Found:
        """These alone, in this order."""
        return Found(**{name: [values[i] for i in order] for name, values in vars(self).items()})

    def box_tensor(self) -> Tensor:
        """(K, 4) float32."""
        return torch.stack(self.boxes).float() if self.boxes else torch.zeros(0, 4)


def exact_masks(model: PromptModel, embedding: Any, crop: Crop, grid: np.ndarray, settings: GeneratorSettings) -> Found:
    """Survivors of one crop, the published way, in the frame of the whole image. grid: (N, 2) x, y in (0, 1)."""
    points = crop.scaled(grid)
    found = Found()

    def decode(part: slice) -> Found:
        masks, batch = _decoded(model, embedding, points[part], settings)
        return _at_full_size(model, embedding, masks, batch, crop, settings)

    for _, survivors in in_batches(len(points), settings.points_per_batch, model.ceilings, "points", decode):
        found.extend(survivors)
    return found.take(nms(found.box_tensor(), torch.tensor(found.iou), settings.box_nms_thresh).tolist())


def fast_masks(model: PromptModel, embedding: Any, crop: Crop, grid: np.ndarray, settings: GeneratorSettings) -> Found:
    """Nearly the same survivors: most of those that fail are told at the decoder's resolution, and never upsampled.

    Stability and suppression are computed there first, with a margin, and then as published for those that are left.
    """
    asked = crop.scaled(grid)

    def decode(part: slice) -> _Draft:
        masks, batch = _decoded(model, embedding, asked[first:][part], settings)
        return _stable_drafts(model, embedding, masks, batch, settings)

    drafts: list[_Draft] = []
    for first in range(0, len(asked), POINTS_BETWEEN_NMS):  # which bounds the masks that are held
        n = min(POINTS_BETWEEN_NMS, len(asked) - first)
        for _, draft in in_batches(n, settings.points_per_batch, model.ceilings, "points", decode):
            drafts.append(draft)
        drafts = [_without_copies(drafts, settings)]
    (draft,) = drafts

    def enlarge(part: slice) -> Found:
        return _at_full_size(model, embedding, draft.masks.take(part), draft.points[part], crop, settings)

    found = Found()
    for _, survivors in in_batches(len(draft.points), settings.points_per_batch, model.ceilings, "masks", enlarge):
        found.extend(survivors)
    return found.take(nms(found.box_tensor(), torch.tensor(found.iou), settings.box_nms_thresh).tolist())


def _without_copies(drafts: list[_Draft], settings: GeneratorSettings) -> _Draft:
    """All drafts but those that another one covers by far; those that may prove unstable at full size come last."""
    order = torch.cat([d.masks.iou + d.sure.float() * SURE_FIRST for d in drafts])
    loose = settings.box_nms_thresh + NMS_MARGIN * (1 - settings.box_nms_thresh)
    kept = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    kept[nms(torch.cat([d.boxes for d in drafts]), order, loose)] = True
    taken = [d.take(keep) for d, keep in zip(drafts, kept.split([len(d.boxes) for d in drafts]), strict=True)]
    return _Draft(
        Masks.joined([d.masks for d in taken]),
        torch.cat([d.boxes for d in taken]),
        torch.cat([d.sure for d in taken]),
        np.concatenate([d.points for d in taken]),
    )


@dataclass(frozen=True)
class _Draft:
    """Masks of a batch before they are upsampled.

    boxes  : (K, 4) float32 x0, y0, x1, y1 in cells of the decoder's output
    sure   : (K,) bool, so stable that full size will not change it
    points : (K, 2) px of the crop that each came from
    """

    masks: Masks
    boxes: Tensor
    sure: Tensor
    points: np.ndarray

    def take(self, keep: Tensor) -> _Draft:
        return _Draft(self.masks.take(keep), self.boxes[keep], self.sure[keep], self.points[keep.cpu().numpy()])


def _stable_drafts(
    model: PromptModel, embedding: Any, masks: Masks, points: np.ndarray, settings: GeneratorSettings
) -> _Draft:
    rows, columns = model.valid_hw(masks.logits, embedding)
    valid = masks.logits[:, :rows, :columns].float().contiguous()
    boxes, least = _fine_boxes(valid - settings.mask_threshold), settings.stability_score_thresh
    if least <= 0:
        return _Draft(masks, boxes, torch.ones_like(masks.iou, dtype=torch.bool), points)
    stability = _stability(valid, settings)
    draft = _Draft(masks, boxes, stability >= (1 + least) / 2, points)
    return draft.take(stability >= least - STABILITY_MARGIN)


def _fine_boxes(logits: Tensor) -> Tensor:
    """(K, 4) where the foreground of (K, h, w) logits begins and ends, to fractions of a cell: x0, y0, x1, y1."""
    boxes = logits.new_zeros(len(logits), 4)
    for axis, (low, high) in ((2, (0, 2)), (1, (1, 3))):
        profile = logits.amax(dim=3 - axis)  # of columns or rows
        for side, p in ((low, profile), (high, profile.flip(1))):
            first = (p > 0).int().argmax(dim=1, keepdim=True)
            inner, outer = p.gather(1, first), p.gather(1, (first - 1).clamp(min=0))
            beyond = inner / (inner - outer)  # of a cell, from the centre of the first that is foreground
            boxes[:, side] = (first + 0.5 - torch.where(outer < 0, beyond, 0.5))[:, 0]
        boxes[:, high] = profile.shape[1] - boxes[:, high]
    return boxes


def _at_full_size(
    model: PromptModel, embedding: Any, masks: Masks, points: np.ndarray, crop: Crop, settings: GeneratorSettings
) -> Found:
    """Those that are stable and not cut off by the crop. points: (K, 2) that each came from."""
    full, iou = model.upscale(masks.logits, embedding), masks.iou  # (K, h, w) of the crop
    stability = _stability(full, settings)
    if settings.stability_score_thresh > 0:
        stable = stability >= settings.stability_score_thresh
        full, iou, stability, points = full[stable], iou[stable], stability[stable], points[stable.cpu().numpy()]
    rles = encode_stack(crop.in_image((full > settings.mask_threshold).cpu().numpy()))
    boxes = outer_boxes(rles, crop.box[:2])  # as published: an empty mask is at its crop's corner
    found = Found(
        rles=rles,
        boxes=list(boxes),
        iou=iou.tolist(),
        stability=stability.tolist(),
        points=[(float(x), float(y)) for x, y in points + np.array(crop.box[:2])],
        crops=[crop.box] * len(rles),
    )
    cut = crop.cuts(boxes)
    return found.take((~cut).nonzero()[:, 0].tolist()) if cut.any() else found


def _decoded(
    model: PromptModel, embedding: Any, points: np.ndarray, settings: GeneratorSettings
) -> tuple[Masks, np.ndarray]:
    """Low-resolution masks above the predicted IoU, and the point (K, 2) that each came from."""
    min_iou = settings.pred_iou_thresh if settings.pred_iou_thresh > 0 else None
    if settings.multimask_output and not settings.use_m2m:
        masks = model.decode_above(embedding, points, min_iou)
    else:
        logits, iou = model.decode(embedding, points, multimask=settings.multimask_output)
        prompt = torch.arange(len(points), device=iou.device).repeat_interleave(logits.shape[1])
        logits, iou = logits.flatten(0, 1), iou.flatten(0, 1)  # (N*M, ...)
        if settings.use_m2m:
            logits, iou = _refined(model, embedding, points[prompt.cpu().numpy()], logits, len(points))
        keep = slice(None) if min_iou is None else iou > min_iou
        masks = Masks(logits[keep], iou[keep], prompt[keep])
    return masks, points[masks.prompt.cpu().numpy()]


def _refined(
    model: PromptModel, embedding: Any, points: np.ndarray, logits: Tensor, batch: int
) -> tuple[Tensor, Tensor]:
    """Every mask decoded once more with itself as mask prompt."""
    parts = []
    for start in range(0, len(points), batch):
        prior = logits[start : start + batch, None].clamp(-LOW_RES_CLAMP, LOW_RES_CLAMP)
        parts.append(model.decode(embedding, points[start : start + batch], prior, multimask=False))
    return torch.cat([p[0][:, 0] for p in parts]), torch.cat([p[1][:, 0] for p in parts])


def _stability(logits: Tensor, settings: GeneratorSettings) -> Tensor:
    """(K,) IoU of the masks at a higher and a lower threshold; nan where the lower one is empty."""
    above = _areas(logits, settings.mask_threshold + settings.stability_score_offset)
    return above / _areas(logits, settings.mask_threshold - settings.stability_score_offset)


def _areas(logits: Tensor, threshold: float) -> Tensor:
    """(K,) number of px above a threshold."""
    if logits.is_cuda:
        return (logits > threshold).flatten(1).sum(1, dtype=torch.int32)
    # NumPy counts bits of a mask that is still in the cache; torch widens each to an integer first
    return torch.tensor([np.count_nonzero(mask > threshold) for mask in logits.numpy()], dtype=torch.int32)


def outer_boxes(rles: list[Rle], nowhere_xy: tuple[int, int] = (0, 0)) -> Tensor:
    """(K, 4) int64 x0, y0, x1, y1 of the outermost foreground px (inclusive); nowhere_xy twice for an empty mask."""
    xywh = torch.from_numpy(boxes_xywh(rles)).long()
    boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:] - 1], dim=1)
    return torch.where(xywh[:, 2:3] > 0, boxes, torch.tensor([*nowhere_xy, *nowhere_xy]))
