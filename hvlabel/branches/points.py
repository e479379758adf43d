"""Points to the masks of one crop that survive its filters and its suppression: exactly as published, and faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from hvlabel.branches.covered import CoveredPoints, rounds
from hvlabel.config import GeneratorSettings
from hvlabel.masks import Rle, encode_stack
from hvlabel.models.batches import Ceilings, in_batches
from hvlabel.models.two_way import Masks

CROP_EDGE_TOL_PX = 20.0
STABILITY_MARGIN = 0.1  # of what is decided at low resolution, before it is decided at full size
FULL_SIZE_AT_ONCE = 16  # masks between two looks at what they suppress
POINTS_BETWEEN_NMS = 1024
LOW_RES_CLAMP = 32.0  # SAM2 clamps logits before they become a mask prompt


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

    def decode_above(self, embedding: Any, points_xy: np.ndarray, min_iou: float | None) -> Masks:
        """Of three masks per point those above a predicted IoU (None: all)."""

    def upscale(self, logits: Tensor, embedding: Any) -> Tensor:
        """(N, h, w) low-resolution logits -> (N, H, W) float32 of the image."""

    def covered_hw(self, logits: Tensor, embedding: Any) -> tuple[float, float]:
        """Rows and columns of low-resolution logits (N, h, w) that the image takes, the last perhaps in part; the rest is padding."""


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

    def decode(part: slice) -> _Sized:
        masks, batch = _decoded(model, embedding, points[part], settings)
        return _at_full_size(model, embedding, masks, batch, crop, settings)

    for _, sized in in_batches(len(points), settings.points_per_batch, model.ceilings, "points", decode):
        found.extend(sized.coded(crop))
    return found.take(nms(found.box_tensor(), torch.tensor(found.iou), settings.box_nms_thresh).tolist())


def fast_masks(
    model: PromptModel,
    embedding: Any,
    crop: Crop,
    grid: np.ndarray,
    settings: GeneratorSettings,
    covered: CoveredPoints | None = None,
) -> Found:
    """Nearly the same survivors: most masks that fail are told at the decoder's resolution, and never upsampled.

    Stability is computed there first, with a margin, and then as published for those that are left. The suppression takes the
    best score first, and leaves out what bounds of its box show to be a copy of a mask that is kept.
    covered : of the grid's points; those that settings.skip_after masks cover are not asked; None: all are
    """
    points = crop.scaled(grid)
    passes = [np.arange(len(points))] if covered is None else rounds(len(points))
    drafts: list[_Draft] = []
    found = Found()
    n_held = 0
    for among in passes:
        asked = among if covered is None else covered.open_points(among, settings.skip_after)
        for first in range(0, len(asked), POINTS_BETWEEN_NMS):  # which bounds the masks that are held
            group = asked[first : first + POINTS_BETWEEN_NMS]

            def decode(part: slice, group: np.ndarray = group) -> _Draft:
                masks, _ = _decoded(model, embedding, points[group[part]], settings)
                return _likely_stable(model, embedding, masks, points, group[part], crop, settings)

            fresh = [d for _, d in in_batches(len(group), settings.points_per_batch, model.ceilings, "points", decode)]
            if covered is not None:
                for draft in fresh:
                    draft.cover(covered, settings)
            drafts += fresh
            n_held += len(group)
            if n_held >= POINTS_BETWEEN_NMS:
                found.extend(_unsuppressed(model, embedding, _Draft.joined(drafts), crop, settings))
                drafts, n_held = [], 0
    if drafts:
        found.extend(_unsuppressed(model, embedding, _Draft.joined(drafts), crop, settings))
    return found.take(nms(found.box_tensor(), torch.tensor(found.iou), settings.box_nms_thresh).tolist())


@dataclass(frozen=True)
class _Draft:
    """Masks before they are upsampled.

    points       : (K, 2) px of the crop that each came from
    asked        : (K,) index of that point in the grid
    stability    : (K,) at low resolution; 1 where it is not asked for
    inner, outer : (K, 4) float32 bounds of their boxes at full size, as box_bounds gives them
    hw           : rows and columns of the low-resolution masks that the crop takes
    """

    masks: Masks
    points: np.ndarray
    asked: np.ndarray
    stability: np.ndarray
    inner: np.ndarray
    outer: np.ndarray
    hw: tuple[int, int]

    @staticmethod
    def joined(parts: Sequence[_Draft]) -> _Draft:
        names = ("points", "asked", "stability", "inner", "outer")
        points, asked, stability, inner, outer = (np.concatenate([getattr(p, name) for p in parts]) for name in names)
        masks = Masks.joined([p.masks for p in parts])
        return _Draft(masks, points, asked, stability, inner, outer, parts[0].hw)

    def cover(self, covered: CoveredPoints, settings: GeneratorSettings) -> None:
        """Tell which grid points these masks cover."""
        rows, columns = self.hw
        above = self.masks.logits[:, :rows, :columns] > settings.mask_threshold
        covered.note(above.cpu().numpy(), self.masks.iou.float().cpu().numpy(), self.stability, self.asked)


def _likely_stable(
    model: PromptModel,
    embedding: Any,
    masks: Masks,
    points: np.ndarray,
    asked: np.ndarray,
    crop: Crop,
    settings: GeneratorSettings,
) -> _Draft:
    """Those masks of a crop that may be stable at full size.

    points : (N, 2) the grid, px of the crop
    asked  : which of them the masks' prompts are
    """
    covered_hw, least = model.covered_hw(masks.logits, embedding), settings.stability_score_thresh
    rows, columns = (ceil(n) for n in covered_hw)
    # one row and column of the padding: upsampling may look at them
    logits = masks.logits[:, : rows + 1, : columns + 1].float()
    stability = np.ones(len(logits))
    if least > 0:
        at_low_resolution = _stability(logits[:, :rows, :columns].contiguous(), settings).to(logits.device)
        likely = at_low_resolution >= least - STABILITY_MARGIN
        masks, logits = masks.take(likely), logits[likely]
        stability = at_low_resolution[likely].cpu().numpy()
    bounds = box_bounds(logits - settings.mask_threshold, covered_hw, crop.box, model.slack_cells)
    origin = asked[masks.prompt.cpu().numpy()]
    inner, outer = (b.cpu().numpy() for b in bounds)
    return _Draft(masks, points[origin], origin, stability, inner, outer, (rows, columns))


def _unsuppressed(model: PromptModel, embedding: Any, draft: _Draft, crop: Crop, settings: GeneratorSettings) -> Found:
    """What filters and box NMS at full size leave of the drafts, best score first."""
    threshold = np.float64(settings.box_nms_thresh)  # as torchvision compares
    waiting = draft.masks.iou.argsort(descending=True, stable=True).cpu().numpy()
    found, kept = Found(), np.zeros((0, 4), np.float32)
    while len(waiting):
        next_ones, waiting = waiting[:FULL_SIZE_AT_ONCE], waiting[FULL_SIZE_AT_ONCE:]

        def enlarge(part: slice, these: np.ndarray = next_ones) -> _Sized:
            taken = draft.masks.take(torch.from_numpy(these[part]).to(draft.masks.iou.device))
            return _at_full_size(model, embedding, taken, draft.points[these[part]], crop, settings)

        for _, sized in in_batches(len(next_ones), settings.points_per_batch, model.ceilings, "masks", enlarge):
            fresh: list[int] = []
            for k, box in enumerate(sized.boxes.float().numpy()):
                if not (_box_iou(kept, box) > threshold).any():
                    kept = np.concatenate([kept, box[None]])
                    fresh.append(k)
            found.extend(sized.take(torch.tensor(fresh, dtype=torch.long)).coded(crop))
            for box in kept[len(kept) - len(fresh) :]:
                waiting = waiting[least_iou(box, draft.inner[waiting], draft.outer[waiting]) <= threshold]
    return found


def box_bounds(
    logits: Tensor, covered_hw: tuple[float, float], box: tuple[int, int, int, int], slack_cells: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Boxes inside and around the foreground that (K, h, w) logits will have when upsampled to a crop's box x0, y0, x1, y1.

    covered_hw  : rows and columns that the crop takes, the last perhaps in part
    slack_cells : by which an edge may move because the upsampling takes more than one step
    Both (K, 4) float32 x0, y0, x1, y1 px of the whole image, ends inclusive. Between four neighbours above 0 all
    interpolated values are; the inner box is around the pixels of all such fours, and has no area without one or where a
    pixel may miss a four. The outer box ends where the interpolated profile of rows' or columns' maxima does.
    """
    x0, y0, x1, y1 = box
    cell_px = logits.new_tensor([(x1 - x0) / covered_hw[1], (y1 - y0) / covered_hw[0]]).repeat(2)
    start, most = (logits.new_tensor([x, y, x, y]) for x, y in ((x0, y0), (x1 - 1, y1 - 1)))
    slack = slack_cells * logits.new_tensor([1, 1, -1, -1])

    def to_px(edges: Tensor) -> Tensor:
        """Of the pixels whose centres lie between edges in cells."""
        px = edges * cell_px - 0.5
        return torch.minimum(torch.cat([px[:, :2].ceil(), px[:, 2:].floor()], dim=1) + start, most)

    outer = to_px(_fine_boxes(logits) - slack)
    inner = torch.zeros_like(outer)
    if float(cell_px.min()) * (1 - 2 * slack_cells) >= 1 and min(logits.shape[1:]) > 1:
        above = logits > 0
        pairs = above[:, 1:] & above[:, :-1]
        fours = (pairs[:, :, 1:] & pairs[:, :, :-1]).to(torch.uint8)
        for axis in (0, 1):
            there = fours.amax(dim=1 + axis)  # in which columns, in which rows
            inner[:, axis] = there.argmax(dim=1) + 0.5
            inner[:, axis + 2] = there.shape[1] - there.flip(1).argmax(dim=1) + 0.5
        inner = to_px(inner + slack)
        inner[fours.flatten(1).amax(dim=1) == 0] = 0.0
    return inner, outer


def least_iou(box: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """(K,) least box IoU of a box (4,) with boxes that hold the inner (K, 4) and lie within the outer ones (K, 4)."""
    sure = _overlap(inner, box)
    beyond = _area(outer) - _overlap(outer, box)
    return sure / np.maximum(_area(box) + np.maximum(beyond, 0), 1e-6)


def _box_iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(K,) as torchvision's NMS counts it, widths without the last px; nan of two empty ones."""
    common = _overlap(boxes, box)
    with np.errstate(invalid="ignore"):
        return common / (_area(boxes) + _area(box) - common)


def _overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    low, high = np.maximum(boxes[..., :2], box[:2]), np.minimum(boxes[..., 2:], box[2:])
    return np.clip(high - low, 0, None).prod(axis=-1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(axis=-1)


def _fine_boxes(logits: Tensor) -> Tensor:
    """(K, 4) where the foreground of (K, h, w) logits begins and ends, to fractions of a cell: x0, y0, x1, y1."""
    boxes = logits.new_zeros(len(logits), 4)
    for axis, (low, high) in ((2, (0, 2)), (1, (1, 3))):
        profile = logits.amax(dim=3 - axis)  # of columns or rows
        for side, p in ((low, profile), (high, profile.flip(1))):
            first = (p > 0).int().argmax(dim=1, keepdim=True)
            inner, outer = p.gather(1, first), p.gather(1, (first - 1).clamp(min=0))
            beyond = inner / (inner - outer)  # of a cell, from the centre of the first that is foreground
            boxes[:, side] = (first + 0.5 - torch.where(first > 0, beyond, 0.5))[:, 0]
        boxes[:, high] = profile.shape[1] - boxes[:, high]
    return boxes


@dataclass(frozen=True)
class _Sized:
    """Stable masks at full size.

    masks          : (K, h, w) bool of the crop, on its device
    boxes          : (K, 4) int64 px of the whole image, ends inclusive; an empty mask's is at the crop's corner, as published
    iou, stability : (K,) predicted IoU and stability score
    points         : (K, 2) px of the crop that each came from
    """

    masks: Tensor
    boxes: Tensor
    iou: Tensor
    stability: Tensor
    points: np.ndarray

    def take(self, keep: Tensor) -> _Sized:
        """Those of rising indices (on the CPU) alone."""
        if len(keep) == len(self.boxes):
            return self
        iou, stability = (x[keep.to(x.device)] for x in (self.iou, self.stability))
        return _Sized(
            self.masks[keep.to(self.masks.device)], self.boxes[keep], iou, stability, self.points[keep.numpy()]
        )

    def coded(self, crop: Crop) -> Found:
        """Run-length coded, in the frame of the whole image."""
        return Found(
            rles=encode_stack(crop.in_image(self.masks.cpu().numpy())),
            boxes=list(self.boxes),
            iou=self.iou.tolist(),
            stability=self.stability.tolist(),
            points=[(float(x), float(y)) for x, y in self.points + np.array(crop.box[:2])],
            crops=[crop.box] * len(self.boxes),
        )


def _at_full_size(
    model: PromptModel, embedding: Any, masks: Masks, points: np.ndarray, crop: Crop, settings: GeneratorSettings
) -> _Sized:
    """Those that are stable and not cut off by the crop. points: (K, 2) that each came from."""
    full, iou = model.upscale(masks.logits, embedding), masks.iou  # (K, h, w) of the crop
    stability = _stability(full, settings)
    above = full > settings.mask_threshold
    boxes = outer_boxes(above) + torch.tensor([*crop.box[:2], *crop.box[:2]])
    keep = ~crop.cuts(boxes)
    if settings.stability_score_thresh > 0:
        keep &= (stability >= settings.stability_score_thresh).cpu()
    return _Sized(above, boxes, iou, stability, points).take(keep.nonzero()[:, 0])


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


def outer_boxes(masks: Tensor) -> Tensor:
    """(K, 4) int64 x0, y0, x1, y1 of the outermost foreground px (inclusive) of (K, h, w) bool masks; zeros for an empty one."""
    if masks.is_cuda:
        ends = []
        for there in (masks.any(dim=1), masks.any(dim=2)):
            last = there.shape[1] - 1 - there.flip(1).int().argmax(dim=1)
            ends.append((there.int().argmax(dim=1), torch.where(there.any(dim=1), last, 0)))
        (x0, x1), (y0, y1) = ends
        return torch.stack([x0, y0, x1, y1], dim=1).cpu()
    xywh = [cv2.boundingRect(mask) for mask in masks.contiguous().view(torch.uint8).numpy()]
    boxes = torch.tensor(xywh, dtype=torch.int64).reshape(-1, 4)
    boxes[:, 2:] = (boxes[:, :2] + boxes[:, 2:] - 1).clamp(min=0)
    return boxes
