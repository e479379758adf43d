"""Points on a grid to masks: one generator for every network that decodes prompts.

The algorithm and its settings are those of SAM's automatic mask generator (SAM2AutomaticMaskGenerator in the sam2
package): same filters, same order, same result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from math import ceil
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from hvlabel.config import Branch, GeneratorSettings
from hvlabel.masks import Mask, Rle, decode, encode, encode_stack
from hvlabel.models.two_way import Masks

CROP_EDGE_TOL_PX = 20.0
LOW_RES_CLAMP = 32.0  # SAM2 clamps logits before they become a mask prompt


class PromptModel(Protocol):
    """A network that embeds an image once and decodes point prompts on it."""

    def embed(self, image: np.ndarray) -> Any:
        """Embedding of an (H, W, C) image."""

    def decode(
        self, embedding: Any, points_xy: np.ndarray, masks: Tensor | None = None, *, multimask: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, M, h, w) and predicted IoU (N, M) of (N, 2) float64 foreground points, px of the image."""

    def decode_above(self, embedding: Any, points_xy: np.ndarray, min_iou: float | None) -> Masks:
        """Of three masks per point those above a predicted IoU (None: all); the others are never made."""

    def upscale(self, logits: Tensor, embedding: Any) -> Tensor:
        """(N, h, w) low-resolution logits -> (N, H, W) of the image."""


@dataclass
class _Found:
    """Parallel lists of what survived so far; boxes in px of the whole image, x0 y0 x1 y1 with inclusive ends."""

    rles: list[Rle] = field(default_factory=list)
    boxes: list[Tensor] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    stability: list[float] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)
    crops: list[tuple[int, int, int, int]] = field(default_factory=list)

    def extend(self, other: _Found) -> None:
        for name, values in vars(other).items():
            getattr(self, name).extend(values)

    def take(self, order: list[int]) -> _Found:
        return _Found(**{name: [values[i] for i in order] for name, values in vars(self).items()})

    def box_tensor(self) -> Tensor:
        return torch.stack(self.boxes).float() if self.boxes else torch.zeros(0, 4)


@torch.inference_mode()
def generate_masks(
    model: PromptModel,
    image: np.ndarray,
    settings: GeneratorSettings,
    branch: Branch,
    embedding: Any = None,
) -> list[Mask]:
    """Masks of an (H, W, C) image in the order of the last suppression that ran (one crop: best predicted IoU first).

    embedding : the whole image's, if it is at hand already
    A mask's score is its predicted IoU clipped to [0, 1].
    """
    height, width = image.shape[:2]
    found = _Found()
    crops = crop_boxes(height, width, settings.crop_n_layers, settings.crop_overlap_ratio)
    for crop, layer in crops:
        x0, y0, x1, y1 = crop
        features = embedding if layer == 0 and embedding is not None else model.embed(image[y0:y1, x0:x1])
        found.extend(_in_crop(model, features, crop, layer, (height, width), settings))
    if len(crops) > 1:
        sizes = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in found.crops]
        smaller_first = 1 / torch.tensor(sizes, dtype=torch.float32)
        found = found.take(nms(found.box_tensor(), smaller_first, settings.crop_nms_thresh).tolist())
    if settings.min_mask_region_area:
        found = _without_small_regions(found, settings)
    return [_mask(found, k, branch) for k in range(len(found.rles))]


def point_grid(points_per_side: int) -> np.ndarray:
    """(n*n, 2) float64 x, y in (0, 1), row by row, centred in their cells."""
    offset = 1 / (2 * points_per_side)
    side = np.linspace(offset, 1 - offset, points_per_side)
    x, y = np.meshgrid(side, side)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def crop_boxes(
    height: int, width: int, n_layers: int, overlap_ratio: float
) -> list[tuple[tuple[int, int, int, int], int]]:
    """((x0, y0, x1, y1), layer) of the whole image and of 4**layer overlapping crops per further layer."""
    boxes = [((0, 0, width, height), 0)]
    for layer in range(1, n_layers + 1):
        n = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / n))
        crop_w, crop_h = (ceil((overlap * (n - 1) + side) / n) for side in (width, height))
        for i, j in product(range(n), range(n)):
            x0, y0 = (crop_w - overlap) * i, (crop_h - overlap) * j
            boxes.append(((x0, y0, min(x0 + crop_w, width), min(y0 + crop_h, height)), layer))
    return boxes


def _in_crop(
    model: PromptModel,
    embedding: Any,
    crop: tuple[int, int, int, int],
    layer: int,
    image_hw: tuple[int, int],
    settings: GeneratorSettings,
) -> _Found:
    """Survivors of one crop after its own box NMS, in the frame of the whole image."""
    x0, y0, x1, y1 = crop
    per_side = int(settings.points_per_side / settings.crop_n_points_downscale_factor**layer)
    points = point_grid(max(per_side, 1)) * np.array([x1 - x0, y1 - y0])
    found = _Found()
    for start in range(0, len(points), settings.points_per_batch):
        batch = points[start : start + settings.points_per_batch]
        found.extend(_in_batch(model, embedding, batch, crop, image_hw, settings))
    return found.take(nms(found.box_tensor(), torch.tensor(found.iou), settings.box_nms_thresh).tolist())


def _in_batch(
    model: PromptModel,
    embedding: Any,
    points: np.ndarray,
    crop: tuple[int, int, int, int],
    image_hw: tuple[int, int],
    settings: GeneratorSettings,
) -> _Found:
    min_iou = settings.pred_iou_thresh if settings.pred_iou_thresh > 0 else None
    if settings.multimask_output and not settings.use_m2m:
        found = model.decode_above(embedding, points, min_iou)
        logits, iou, points = found.logits, found.iou, points[found.prompt.cpu().numpy()]
    else:
        logits, iou = model.decode(embedding, points, multimask=settings.multimask_output)
        points = np.repeat(points, logits.shape[1], axis=0)  # (N*M, 2)
        logits, iou = logits.flatten(0, 1), iou.flatten(0, 1)
        if settings.use_m2m:
            logits, iou = _refined(model, embedding, points, logits, settings.points_per_batch)
        if min_iou is not None:
            keep = iou > min_iou
            logits, iou, points = logits[keep], iou[keep], points[keep.cpu().numpy()]
    full = model.upscale(logits, embedding).float()  # (K, h, w) of the crop
    stability = _stability(full, settings)
    if settings.stability_score_thresh > 0:
        stable = stability >= settings.stability_score_thresh
        full, iou, stability, points = full[stable], iou[stable], stability[stable], points[stable.cpu().numpy()]
    masks = full > settings.mask_threshold
    boxes = _boxes(masks) + torch.tensor([crop[0], crop[1], crop[0], crop[1]], device=masks.device)
    keep = ~_cut_by_crop(boxes, crop, image_hw)
    masks, boxes, iou, stability = (t[keep].cpu() for t in (masks, boxes, iou, stability))
    points = points[keep.cpu().numpy()] + np.array(crop[:2])
    return _Found(
        rles=encode_stack(_uncrop(masks.numpy(), crop, image_hw)),
        boxes=list(boxes),
        iou=iou.tolist(),
        stability=stability.tolist(),
        points=[(float(x), float(y)) for x, y in points],
        crops=[crop] * len(masks),
    )


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


def _boxes(masks: Tensor) -> Tensor:
    """(K, 4) x0, y0, x1, y1 of the outermost foreground px (inclusive); zeros for an empty mask."""
    boxes = torch.zeros(len(masks), 4, dtype=torch.int64, device=masks.device)
    for axis, (low, high) in ((2, (0, 2)), (1, (1, 3))):
        seen = masks.any(dim=3 - axis).int()  # (K, columns) or (K, rows)
        n = seen.shape[1]
        boxes[:, low] = seen.argmax(dim=1)
        boxes[:, high] = n - 1 - seen.flip(1).argmax(dim=1)
    boxes[~masks.flatten(1).any(dim=1)] = 0
    return boxes


def _cut_by_crop(boxes: Tensor, crop: tuple[int, int, int, int], image_hw: tuple[int, int]) -> Tensor:
    """(K,) whether a box comes near an edge of the crop that is no edge of the image."""
    here = boxes.float()
    near_crop = (here - here.new_tensor(crop)).abs() <= CROP_EDGE_TOL_PX
    near_image = (here - here.new_tensor((0, 0, image_hw[1], image_hw[0]))).abs() <= CROP_EDGE_TOL_PX
    return (near_crop & ~near_image).any(dim=1)


def _uncrop(masks: np.ndarray, crop: tuple[int, int, int, int], image_hw: tuple[int, int]) -> np.ndarray:
    """(K, h, w) masks of a crop -> (K, H, W)."""
    x0, y0, x1, y1 = crop
    if (y1 - y0, x1 - x0) == tuple(image_hw):
        return masks
    full = np.zeros((len(masks), *image_hw), bool)
    full[:, y0:y1, x0:x1] = masks
    return full


def _without_small_regions(found: _Found, settings: GeneratorSettings) -> _Found:
    """Fill small holes, drop small islands, then box NMS that prefers masks which needed neither."""
    changed: list[bool] = []
    for k, rle in enumerate(found.rles):
        mask, filled = _drop_small(decode(rle), settings.min_mask_region_area, holes=True)
        mask, dropped = _drop_small(mask, settings.min_mask_region_area, holes=False)
        changed.append(filled or dropped)
        if changed[-1]:
            found.rles[k] = encode(mask)
            found.boxes[k] = _boxes(torch.from_numpy(mask)[None])[0]
    score = torch.tensor([0.0 if c else 1.0 for c in changed])
    return found.take(nms(found.box_tensor(), score, max(settings.box_nms_thresh, settings.crop_nms_thresh)).tolist())


def _drop_small(mask: np.ndarray, min_area: int, *, holes: bool) -> tuple[np.ndarray, bool]:
    """The mask without holes (or islands) below min_area px, 8-connected; the largest island always stays."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask ^ holes).astype(np.uint8), connectivity=8)
    area = stats[1:, cv2.CC_STAT_AREA]  # component 0 is the rest
    small = np.flatnonzero(area < min_area) + 1
    if not len(small):
        return mask, False
    if holes:
        return mask | np.isin(labels, small), True
    large = np.flatnonzero(area >= min_area) + 1
    return np.isin(labels, large if len(large) else [int(area.argmax()) + 1]), True


def _mask(found: _Found, k: int, branch: Branch) -> Mask:
    x0, y0, x1, y1 = found.crops[k]
    return Mask(
        found.rles[k],
        score=min(1.0, max(0.0, found.iou[k])),
        branch=branch,
        point_xy=found.points[k],
        predicted_iou=found.iou[k],
        stability_score=found.stability[k],
        crop_box_xywh=(x0, y0, x1 - x0, y1 - y0),
    )
