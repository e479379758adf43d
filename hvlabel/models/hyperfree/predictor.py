"""One camera's images through HyperFree, behind the interface of the point-grid generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.models.batches import Ceilings
from hvlabel.models.hyperfree.network import HyperFree
from hvlabel.models.two_way import ImageSide, Masks, confident_masks, embeddable, half_precision, image_side


@dataclass(frozen=True)
class Embedding:
    """features: (1, D, g, g); sizes are (height, width) px of the image before and after resizing, padding excluded."""

    features: Tensor
    original_hw: tuple[int, int]
    resized_hw: tuple[int, int]


class HyperFreePredictor:
    """Embeds images of one camera and decodes prompts on them.

    gsd_m : ground sampling distance of the raw image, m per pixel
    half  : compute in bfloat16; what comes out is float32 all the same, logits of decode_above excepted
    ceilings : of batches, kept from image to image
    """

    def __init__(
        self,
        network: HyperFree,
        wavelengths_nm: Sequence[float],
        gsd_m: float = 1.0,
        *,
        half: bool = False,
        ceilings: Ceilings | None = None,
    ) -> None:
        self.network, self.half = network, half
        self.ceilings = ceilings or Ceilings()
        cells, side_px = 4 * network.topology.decoder_grid, network.topology.image_size_px
        self.slack_cells = (
            0.0 if cells == side_px else cells / side_px
        )  # upscale's first step, if it is one: a px of the input
        self._decoder = half_precision(network.mask_decoder) if half else network.mask_decoder
        self.wavelengths_nm = [float(nm) for nm in wavelengths_nm]
        self.gsd_m = gsd_m
        self._side: tuple[Embedding, ImageSide] | None = None  # of the image decoded last

    def prepare(self, image: np.ndarray) -> tuple[Tensor, tuple[int, int]]:
        """(1, C, S, S) float32 network input and the size of the image in it.

        image : (H, W, C), any unit; resized to longest side S (antialiased), divided by its maximum, zero-padded
        """
        side = self.network.topology.image_size_px
        device = next(self.network.parameters()).device
        x = torch.as_tensor(np.ascontiguousarray(image), device=device).float().permute(2, 0, 1)[None]
        size = resized_hw(image.shape[0], image.shape[1], side)
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        peak = x.max()
        x = x / torch.where(peak == 0, torch.ones_like(peak), peak)
        return F.pad(x, (0, side - size[1], 0, side - size[0])), size

    @torch.inference_mode()
    def embed(self, image: np.ndarray) -> Embedding:
        """Embedding of an (H, W, C) image."""
        x, size = self.prepare(image)
        original = (image.shape[0], image.shape[1])
        gsd_m = self.gsd_m * max(original) / self.network.topology.image_size_px
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half):
            features = self.network.encode(x, self.wavelengths_nm, [gsd_m])[-1]
        return Embedding(features.float(), original, size)

    @torch.inference_mode()
    def decode(
        self, embedding: Embedding, points_xy: np.ndarray, masks: Tensor | None = None, *, multimask: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (N, M, 4g, 4g) and predicted IoU (N, M) of one foreground point each.

        points_xy : (N, 2) float64 px of the original image
        """
        points, labels = self._points(embedding, points_xy)
        return self.network.decode(
            embedding.features, points_xy=points, labels=labels, masks=masks, multimask=multimask
        )

    @torch.inference_mode()
    def decode_above(self, embedding: Embedding, points_xy: np.ndarray, min_iou: float | None) -> Masks:
        """Like decode with multimask, but only masks above a predicted IoU (None: all); prompts without one are never upscaled."""
        encoder, decoder = self.network.prompt_encoder, self._decoder
        points, labels = self._points(embedding, embeddable(points_xy))
        sparse, dense = encoder(points, labels, None, None)
        if self._side is None or self._side[0] is not embedding:
            features = embedding.features + dense[:1]
            self._side = embedding, image_side(decoder, features, encoder.dense_code(), [])
        return confident_masks(decoder, self._side[1], sparse[: len(points_xy)], min_iou)

    def _points(self, embedding: Embedding, points_xy: np.ndarray) -> tuple[Tensor, Tensor]:
        """(N, 1, 2) px of the padded input and (N, 1) labels of foreground points."""
        (old_h, old_w), (new_h, new_w) = embedding.original_hw, embedding.resized_hw
        scaled = points_xy * np.array([new_w / old_w, new_h / old_h])
        points = torch.as_tensor(scaled, device=embedding.features.device)[:, None]
        return points, torch.ones(len(points), 1, dtype=torch.int32, device=points.device)

    def upscale(self, logits: Tensor, embedding: Embedding) -> Tensor:
        """(N, h, w) low-resolution logits -> (N, H, W) of the original image: to the padded input, crop, to the image."""
        side = self.network.topology.image_size_px
        full = F.interpolate(logits[:, None].float(), (side, side), mode="bilinear", align_corners=False)
        cropped = full[..., : embedding.resized_hw[0], : embedding.resized_hw[1]]
        return F.interpolate(cropped, embedding.original_hw, mode="bilinear", align_corners=False)[:, 0]

    def covered_hw(self, logits: Tensor, embedding: Embedding) -> tuple[float, float]:
        """Rows and columns of low-resolution logits that the image takes."""
        scale = logits.shape[-1] / self.network.topology.image_size_px
        return embedding.resized_hw[0] * scale, embedding.resized_hw[1] * scale


def resized_hw(height_px: int, width_px: int, side_px: int) -> tuple[int, int]:
    """(height, width) after scaling the longest side to side_px, rounded half up as published."""
    scale = side_px / max(height_px, width_px)
    return int(height_px * scale + 0.5), int(width_px * scale + 0.5)
