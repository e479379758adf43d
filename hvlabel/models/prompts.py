"""Prompts on one embedded image: what HyperFree and SAM share, whose prompt encoder and mask decoder are the same modules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.models.batches import Ceilings
from hvlabel.models.two_way import (
    ImageSide,
    Masks,
    clear_masks,
    confident_masks,
    embeddable,
    half_precision,
    image_side,
)

LOW_RES_CLAMP = 32.0  # SAM2 clamps logits before they become a mask prompt
SURE_LOGIT = 8.0  # of a finished mask that becomes a prompt
CLEAR_AT_ONCE = 8  # prompts with an image of their own each: few, so that a CPU's cache holds them

if TYPE_CHECKING:
    from hvlabel.models.hyperfree.decoder import PromptedNetwork


@dataclass(frozen=True)
class Embedding:
    """features: (1, D, g, g); sizes are (height, width) px of the image before and after resizing, padding excluded."""

    features: Tensor
    original_hw: tuple[int, int]
    resized_hw: tuple[int, int]


class PaddedPredictor:
    """Decodes prompts on images that were scaled to the input's longest side and padded right and below.

    half     : decode in bfloat16; what comes out is float32 all the same, logits of decode_above excepted
    ceilings : of batches, kept from image to image
    """

    network: PromptedNetwork

    def __init__(self, network: PromptedNetwork, *, half: bool, ceilings: Ceilings | None) -> None:
        self.half = half
        self.ceilings = ceilings or Ceilings()
        self.network = network
        self.prompt_encoder = network.prompt_encoder
        self.side_px = self.prompt_encoder.image_size_px
        cells = 4 * self.prompt_encoder.grid
        # upscale's first step, if it is one, may move an edge by a px of the input
        self.slack_cells = 0.0 if cells == self.side_px else cells / self.side_px
        self._decoder = half_precision(network.mask_decoder) if half else network.mask_decoder
        self._side: tuple[Embedding, ImageSide] | None = None  # of the image decoded last

    @torch.inference_mode()
    def decode(
        self,
        embedding: Embedding,
        points_xy: np.ndarray | None,
        masks: Tensor | None = None,
        *,
        labels: np.ndarray | None = None,
        boxes_xyxy: np.ndarray | None = None,
        multimask: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (N, M, 4g, 4g) and predicted IoU (N, M) of N prompts; M is 3 with multimask, else 1.

        points_xy  : (N, 2) or (N, P, 2) float64 px of the original image, or None
        masks      : (N, 1, 4g, 4g) logits of an earlier call, or None
        labels     : (N, P) 1 foreground, 0 background; None: all foreground
        boxes_xyxy : (N, 4) px of the original image, or None
        """
        points = kinds = boxes = None
        if points_xy is not None:
            points, kinds = self._points(embedding, points_xy, labels)
        if boxes_xyxy is not None:
            boxes = self._scaled(embedding, boxes_xyxy.reshape(-1, 2, 2)).reshape(-1, 4)
        return self.network.decode(
            embedding.features, points_xy=points, labels=kinds, boxes_xyxy=boxes, masks=masks, multimask=multimask
        )

    @torch.inference_mode()
    def decode_above(self, embedding: Embedding, points_xy: np.ndarray, min_iou: float | None) -> Masks:
        """Like decode with multimask, but only masks above a predicted IoU (None: all); prompts without one are never upscaled.

        points_xy : (N, 2) float64 px of the original image, one foreground point per prompt
        """
        points, labels = self._points(embedding, embeddable(points_xy), None)
        sparse, dense = self.prompt_encoder(points, labels, None, None)
        if self._side is None or self._side[0] is not embedding:
            features = embedding.features + dense[:1]
            self._side = embedding, image_side(self._decoder, features, self.prompt_encoder.dense_code(), [])
        return confident_masks(self._decoder, self._side[1], sparse[: len(points_xy)], min_iou)

    @torch.inference_mode()
    def decode_clear(
        self, embedding: Embedding, boxes_xyxy: np.ndarray, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One mask per box: logits (N, 4g, 4g) float32 and predicted IoU (N,).

        boxes_xyxy : (N, 4) px of the original image
        masks      : (N, 4g, 4g) logits of an earlier call that say more than the box does, or None
        """
        parts = []
        for start in range(0, len(boxes_xyxy), CLEAR_AT_ONCE):
            part = slice(start, start + CLEAR_AT_ONCE)
            parts.append(self._clear(embedding, boxes_xyxy[part], None if masks is None else masks[part]))
        if not parts:
            cells = 4 * self.prompt_encoder.grid
            return embedding.features.new_zeros(0, cells, cells), embedding.features.new_zeros(0)
        logits, iou = zip(*parts, strict=True)
        return torch.cat(logits).float(), torch.cat(iou)

    def mask_prompt(self, masks: np.ndarray, embedding: Embedding) -> Tensor:
        """(N, 4g, 4g) logits that ask for (N, H, W) bool masks of the original image: sure inside, sure of nothing around."""
        cells = 4 * self.prompt_encoder.grid
        whole = torch.as_tensor(masks, device=embedding.features.device)[:, None].float()
        rows, columns = (max(1, round(n * cells / self.side_px)) for n in embedding.resized_hw)
        share = F.interpolate(whole, size=(rows, columns), mode="area")[:, 0]
        prompt = share.new_full((len(masks), cells, cells), -SURE_LOGIT)
        prompt[:, :rows, :columns] = SURE_LOGIT * (2 * share - 1)
        return prompt

    def _clear(self, embedding: Embedding, boxes_xyxy: np.ndarray, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        boxes = self._scaled(embedding, boxes_xyxy.reshape(-1, 2, 2)).reshape(-1, 4)
        prior = None if masks is None else masks[:, None].float().clamp(-LOW_RES_CLAMP, LOW_RES_CLAMP)
        sparse, dense = self.prompt_encoder(None, None, boxes, prior)
        dtype = self._decoder.iou_token.weight.dtype
        image = (embedding.features + dense).flatten(2).transpose(1, 2).to(dtype)  # (N, g*g, D)
        code = self.prompt_encoder.dense_code()[0].flatten(1).T.to(dtype)
        grid = self.prompt_encoder.grid
        return clear_masks(self._decoder, ImageSide(image.contiguous(), code, (grid, grid)), sparse)

    def upscale(self, logits: Tensor, embedding: Embedding) -> Tensor:
        """(N, h, w) low-resolution logits -> (N, H, W) of the original image: to the padded input, crop, to the image."""
        side, logits = self.side_px, logits.float()
        if max(embedding.original_hw) < side:
            # both steps are linear in rows and in columns: one product each, without the masks at the input's size
            sizes = zip(logits.shape[1:], embedding.resized_hw, embedding.original_hw, strict=True)
            rows, columns = (_resizing(cells, side, *steps).to(logits.device) for cells, *steps in sizes)
            return rows @ logits @ columns.T
        full = F.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)
        cropped = full[..., : embedding.resized_hw[0], : embedding.resized_hw[1]]
        return F.interpolate(cropped, embedding.original_hw, mode="bilinear", align_corners=False)[:, 0]

    def covered_hw(self, logits: Tensor, embedding: Embedding) -> tuple[float, float]:
        """Rows and columns of low-resolution logits that the image takes."""
        scale = logits.shape[-1] / self.side_px
        return embedding.resized_hw[0] * scale, embedding.resized_hw[1] * scale

    def _points(self, embedding: Embedding, points_xy: np.ndarray, labels: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """(N, P, 2) px of the padded input and (N, P) labels."""
        several = points_xy if points_xy.ndim == 3 else points_xy[:, None]
        points = self._scaled(embedding, several)
        if labels is None:
            return points, torch.ones(points.shape[:2], dtype=torch.int32, device=points.device)
        return points, torch.as_tensor(labels, dtype=torch.int32, device=points.device)

    def _scaled(self, embedding: Embedding, xy: np.ndarray) -> Tensor:
        """(..., 2) px of the original image -> px of the padded input."""
        (old_h, old_w), (new_h, new_w) = embedding.original_hw, embedding.resized_hw
        return torch.as_tensor(xy * np.array([new_w / old_w, new_h / old_h]), device=embedding.features.device)


@lru_cache(maxsize=8)
def _resizing(cells: int, side_px: int, resized_px: int, original_px: int) -> Tensor:
    """(original_px, cells): bilinear interpolation of a row to the padded input, its crop, and that to the image, as one."""
    padded_row = F.interpolate(torch.eye(cells)[None], size=side_px, mode="linear", align_corners=False)
    return F.interpolate(padded_row[..., :resized_px], size=original_px, mode="linear", align_corners=False)[0].T


def resized_hw(height_px: int, width_px: int, side_px: int) -> tuple[int, int]:
    """(height, width) after scaling the longest side to side_px, rounded half up as published; at least one px."""
    scale = side_px / max(height_px, width_px)
    return max(1, int(height_px * scale + 0.5)), max(1, int(width_px * scale + 0.5))


def fitted(image: Tensor, side_px: int) -> tuple[Tensor, tuple[int, int]]:
    """(1, C, h, w) float32 of the longest side side_px, antialiased where it shrinks, and (h, w). image: (1, C, H, W)."""
    size = resized_hw(image.shape[2], image.shape[3], side_px)
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True), size


def padded(image: Tensor, side_px: int) -> Tensor:
    """(1, C, S, S): zeros right of and below a (1, C, h, w) image."""
    return F.pad(image, (0, side_px - image.shape[3], 0, side_px - image.shape[2]))
