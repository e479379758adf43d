"""Prompts on one embedded image: what HyperFree and SAM share, whose prompt encoder and mask decoder are the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.models.batches import Ceilings
from hvlabel.models.decoder import PromptedNetwork
from hvlabel.models.two_way import (
    LOW_RES_CLAMP,
    DecodedMasks,
    ImageSide,
    clear_masks,
    confident_masks,
    embeddable,
    half_precision,
    image_side,
)

SURE_LOGIT = 8.0  # of a finished mask that becomes a prompt
CLEAR_AT_ONCE = 8  # prompts with an image of their own each: few, so that a CPU's cache holds them


@dataclass(frozen=True)
class PaddedEmbedding:
    """An image's features, and where in the padded input it lies: in the upper left corner.

    features    : (1, D, g, g)
    original_hw : (height, width) px of the image
    resized_hw  : the same after resizing, padding excluded
    """

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
        self.cells = 4 * self.prompt_encoder.grid  # along a side of the low-resolution logits
        # upscale's first step, if it is one, may move an edge by a px of the input
        self.slack_cells = 0.0 if self.cells == self.side_px else self.cells / self.side_px
        self._decoder = half_precision(network.mask_decoder) if half else network.mask_decoder
        self._side: tuple[PaddedEmbedding, ImageSide] | None = None  # of the image decoded last

    @torch.inference_mode()
    def decode(
        self,
        embedding: PaddedEmbedding,
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
            boxes = self._boxes(embedding, boxes_xyxy)
        return self.network.decode(
            embedding.features, points_xy=points, labels=kinds, boxes_xyxy=boxes, masks=masks, multimask=multimask
        )

    @torch.inference_mode()
    def decode_above(self, embedding: PaddedEmbedding, points_xy: np.ndarray, min_iou: float | None) -> DecodedMasks:
        """Like decode with multimask, but only masks above a predicted IoU (None: all).

        points_xy : (N, 2) float64 px of the original image, one foreground point per prompt
        Prompts without such a mask are never upscaled.
        """
        points, labels = self._points(embedding, embeddable(points_xy), None)
        sparse, dense = self.prompt_encoder(points, labels, None, None)
        side = self._image_side(embedding, dense[:1])
        return confident_masks(self._decoder, side, sparse[: len(points_xy)], min_iou)

    @torch.inference_mode()
    def decode_clear(
        self, embedding: PaddedEmbedding, boxes_xyxy: np.ndarray, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One mask per box: logits (N, 4g, 4g) float32 and predicted IoU (N,).

        boxes_xyxy : (N, 4) px of the original image
        masks      : (N, 4g, 4g) logits of an earlier call that say more than the box does, or None
        """
        parts = []
        for start in range(0, len(boxes_xyxy), CLEAR_AT_ONCE):
            part = slice(start, start + CLEAR_AT_ONCE)
            priors = None if masks is None else masks[part]
            parts.append(self._clear(embedding, boxes_xyxy[part], priors))
        if not parts:
            features = embedding.features
            no_logits = features.new_zeros(0, self.cells, self.cells)
            return no_logits, features.new_zeros(0)
        logits, iou = zip(*parts, strict=True)
        return torch.cat(logits).float(), torch.cat(iou)

    def mask_prompt(self, masks: np.ndarray, embedding: PaddedEmbedding) -> Tensor:
        """(N, 4g, 4g) logits that stand for finished masks: sure inside, sure of nothing around.

        masks : (N, H, W) bool of the original image
        """
        on_device = torch.as_tensor(masks, device=embedding.features.device)
        whole = on_device[:, None].float()  # (N, 1, H, W)
        rows, columns = (max(1, round(n * self.cells / self.side_px)) for n in embedding.resized_hw)
        share = F.interpolate(whole, size=(rows, columns), mode="area")[:, 0]  # of each cell that is inside
        shape = (len(masks), self.cells, self.cells)
        prompt = share.new_full(shape, -SURE_LOGIT)  # padding is as surely outside
        prompt[:, :rows, :columns] = SURE_LOGIT * (2 * share - 1)
        return prompt

    def upscale(self, logits: Tensor, embedding: PaddedEmbedding) -> Tensor:
        """(N, h, w) low-resolution logits -> (N, H, W) of the original image, as published in two steps.

        The first is to the padded input, of which the image's part is cropped; the second is to the image.
        """
        side, logits = self.side_px, logits.float()
        if max(embedding.original_hw) < side:
            # both steps are linear in rows and in columns: one product each, without the masks at the input's size
            sizes = zip(logits.shape[1:], embedding.resized_hw, embedding.original_hw, strict=True)
            rows, columns = (_resizing(cells, side, *steps).to(logits.device) for cells, *steps in sizes)
            return rows @ logits @ columns.T
        full = F.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)
        height, width = embedding.resized_hw
        cropped = full[..., :height, :width]
        enlarged = F.interpolate(cropped, embedding.original_hw, mode="bilinear", align_corners=False)
        return enlarged[:, 0]

    def covered_hw(self, logits: Tensor, embedding: PaddedEmbedding) -> tuple[float, float]:
        """Rows and columns of low-resolution logits that the image takes."""
        scale = logits.shape[-1] / self.side_px
        return embedding.resized_hw[0] * scale, embedding.resized_hw[1] * scale

    def _image_side(self, embedding: PaddedEmbedding, dense: Tensor) -> ImageSide:
        """What the decoder makes of an image before it sees prompts. dense: (1, D, g, g), the same for all points."""
        if self._side is None or self._side[0] is not embedding:
            code = self.prompt_encoder.dense_code()
            image = embedding.features + dense
            self._side = embedding, image_side(self._decoder, image, code, [])
        return self._side[1]

    def _clear(self, embedding: PaddedEmbedding, boxes_xyxy: np.ndarray, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits (n, 4g, 4g) and predicted IoU (n,) of a few boxes."""
        boxes = self._boxes(embedding, boxes_xyxy)
        prior = None if masks is None else masks[:, None].float().clamp(-LOW_RES_CLAMP, LOW_RES_CLAMP)
        sparse, dense = self.prompt_encoder(None, None, boxes, prior)
        dtype = self._decoder.iou_token.weight.dtype
        # a prior differs from box to box, and with it the image that the decoder sees
        maps = embedding.features + dense  # (n, D, g, g)
        images = maps.flatten(2).transpose(1, 2).to(dtype)  # (n, g*g, D)
        code_map = self.prompt_encoder.dense_code()[0]  # (D, g, g)
        code = code_map.flatten(1).T.to(dtype)  # (g*g, D)
        grid = self.prompt_encoder.grid
        side = ImageSide(images.contiguous(), code, (grid, grid))
        return clear_masks(self._decoder, side, sparse)

    def _points(
        self, embedding: PaddedEmbedding, points_xy: np.ndarray, labels: np.ndarray | None
    ) -> tuple[Tensor, Tensor]:
        """(N, P, 2) px of the padded input and (N, P) labels."""
        several = points_xy if points_xy.ndim == 3 else points_xy[:, None]
        points = self._scaled(embedding, several)
        if labels is None:
            all_foreground = torch.ones(points.shape[:2], dtype=torch.int32, device=points.device)
            return points, all_foreground
        return points, torch.as_tensor(labels, dtype=torch.int32, device=points.device)

    def _boxes(self, embedding: PaddedEmbedding, boxes_xyxy: np.ndarray) -> Tensor:
        """(N, 4) px of the padded input."""
        corners = boxes_xyxy.reshape(-1, 2, 2)
        return self._scaled(embedding, corners).reshape(-1, 4)

    def _scaled(self, embedding: PaddedEmbedding, xy: np.ndarray) -> Tensor:
        """(..., 2) px of the original image -> px of the padded input."""
        (old_h, old_w), (new_h, new_w) = embedding.original_hw, embedding.resized_hw
        scale = np.array([new_w / old_w, new_h / old_h])
        return torch.as_tensor(xy * scale, device=embedding.features.device)


@lru_cache(maxsize=8)
def _resizing(cells: int, side_px: int, resized_px: int, original_px: int) -> Tensor:
    """(original_px, cells): both steps of `upscale` along one axis as a matrix."""
    # what an interpolation makes of the rows of the identity is its matrix
    identity = torch.eye(cells)[None]  # (1, cells, cells)
    padded_row = F.interpolate(identity, size=side_px, mode="linear", align_corners=False)
    cropped_row = padded_row[..., :resized_px]
    of_image = F.interpolate(cropped_row, size=original_px, mode="linear", align_corners=False)
    return of_image[0].T
