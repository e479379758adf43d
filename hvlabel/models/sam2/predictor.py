"""Prompts on one image through SAM2, and the way to its tracker."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hvlabel.models.batches import Ceilings
from hvlabel.models.pictures import network_input
from hvlabel.models.sam2.contract import Sam2Network
from hvlabel.models.sam2.embedding import Sam2Embedding
from hvlabel.models.sam2.tracker import Sam2Tracker
from hvlabel.models.two_way import DecodedMasks, ImageSide, confident_masks, embeddable, half_precision, image_side


class Sam2Predictor:
    """Prompts on one image, and masks carried along frames.

    objects_per_batch : objects carried at once
    half              : compute embeddings, prompts and tracks in bfloat16; what comes out is float32 all the same,
                        logits of decode_above excepted
    memory_frames     : that a track remembers beside the one it started on, at most what the network's config says,
                        which None means
    ceilings          : of batches, kept from image to image
    """

    slack_cells = 0.0  # logits are resized in one step

    def __init__(
        self,
        network: Sam2Network,
        objects_per_batch: int = 16,
        *,
        half: bool = False,
        memory_frames: int | None = None,
        ceilings: Ceilings | None = None,
    ) -> None:
        self.network, self.half = network, half
        self.ceilings = ceilings or Ceilings()
        self._decoder = half_precision(network.sam_mask_decoder) if half else network.sam_mask_decoder
        self.objects_per_batch = objects_per_batch
        most = network.num_maskmem - 1
        self.memory_frames = most if memory_frames is None else min(memory_frames, most)
        self._side: tuple[Sam2Embedding, ImageSide] | None = None  # of the image decoded last

    @torch.inference_mode()
    def embed(self, image: np.ndarray) -> Sam2Embedding:
        """Embedding of an (H, W, 3) image, uint8 or float in [0, 1]."""
        x = network_input(image, self.network.image_size, self.network.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half):
            out = self.network.forward_image(x)
        # the last levels are those that the decoder reads; the package's own trunk may give more
        levels = self.network.num_feature_levels
        read_levels = out["backbone_fpn"][-levels:]
        read_codes = out["vision_pos_enc"][-levels:]
        features = [level.float() for level in read_levels]
        codes = [code.float() for code in read_codes]
        original_hw = (image.shape[0], image.shape[1])
        return Sam2Embedding(features, codes, original_hw)

    def tokens(self, rgb: np.ndarray) -> np.ndarray:
        """(g, g, D) float32 features of the image encoder's coarsest level, stride 16 of its input."""
        coarsest = self.embed(rgb).features[-1][0]  # (D, g, g)
        channels_last = coarsest.permute(1, 2, 0)
        return channels_last.float().cpu().numpy()

    @torch.inference_mode()
    def decode(
        self,
        embedding: Sam2Embedding,
        points_xy: np.ndarray | None,
        masks: Tensor | None = None,
        *,
        labels: np.ndarray | None = None,
        boxes_xyxy: np.ndarray | None = None,
        multimask: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (N, M, S/4, S/4) and predicted IoU (N, M) of N prompts.

        points_xy  : (N, 2) or (N, P, 2) float64 px of the original image, or None
        masks      : (N, 1, S/4, S/4) logits, or None
        labels     : (N, P) 1 foreground, 0 background; None: all foreground
        boxes_xyxy : (N, 4) px of the original image, or None
        """
        network = self.network
        sparse, dense = self._prompts(embedding, points_xy, masks, labels, boxes_xyxy)
        # the package's own module, with its rule for unstable single masks
        logits, iou, _, _ = network.sam_mask_decoder(
            image_embeddings=self._image(embedding),
            image_pe=network.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            repeat_image=len(sparse) > 1,
            high_res_features=embedding.features[:-1] or None,
        )
        return logits, iou

    def decode_clear(self, embedding: Sam2Embedding, boxes_xyxy: np.ndarray) -> tuple[Tensor, Tensor]:
        """One mask per box (N, 4), px of the original image: logits (N, S/4, S/4) and predicted IoU (N,)."""
        logits, iou = self.decode(embedding, None, boxes_xyxy=boxes_xyxy, multimask=False)
        return logits[:, 0], iou[:, 0]

    @torch.inference_mode()
    def decode_above(self, embedding: Sam2Embedding, points_xy: np.ndarray, min_iou: float | None) -> DecodedMasks:
        """Like decode with multimask, but only masks above a predicted IoU (None: all).

        Prompts without such a mask are never upscaled.
        """
        sparse, dense = self._prompts(embedding, embeddable(points_xy), None)
        side = self._image_side(embedding, dense[:1])
        return confident_masks(self._decoder, side, sparse[: len(points_xy)], min_iou)

    def upscale(self, logits: Tensor, embedding: Sam2Embedding) -> Tensor:
        """(N, h, w) low-resolution logits -> (N, H, W) of the original image."""
        return embedding.upscaled(logits)

    def covered_hw(self, logits: Tensor, embedding: Sam2Embedding) -> tuple[float, float]:
        """Rows and columns of low-resolution logits that the image takes: all, it was stretched."""
        return logits.shape[-2], logits.shape[-1]

    @cached_property
    def tracker(self) -> Sam2Tracker:
        """What carries masks along frames; WeightsError for a config of no published kind, which can do all else."""
        return Sam2Tracker(
            self.network,
            self._decoder,
            half=self.half,
            objects_per_batch=self.objects_per_batch,
            memory_frames=self.memory_frames,
            ceilings=self.ceilings,
        )

    def track(
        self, embeddings: list[Sam2Embedding], start: int, masks: Tensor
    ) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """Masks (N, H, W) carried from frame `start` to all others, as Sam2Tracker.track yields them."""
        return self.tracker.track(embeddings, start, masks)

    def _image_side(self, embedding: Sam2Embedding, dense: Tensor) -> ImageSide:
        """What the decoder makes of an image before it sees prompts. dense: (1, D, g, g), the same for all points."""
        if self._side is None or self._side[0] is not embedding:
            image = self._image(embedding) + dense
            code = self.network.sam_prompt_encoder.get_dense_pe()
            self._side = embedding, image_side(self._decoder, image, code, embedding.features[:-1])
        return self._side[1]

    def _image(self, embedding: Sam2Embedding) -> Tensor:
        """(1, D, g, g) features as the decoder takes them."""
        image = embedding.features[-1]
        if self.network.directly_add_no_mem_embed:
            no_memory = self.network.no_mem_embed.reshape(1, -1, 1, 1)
            image = image + no_memory
        return image

    def _prompts(
        self,
        embedding: Sam2Embedding,
        points_xy: np.ndarray | None,
        masks: Tensor | None,
        labels: np.ndarray | None = None,
        boxes_xyxy: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Sparse and dense embedding of N prompts, as `decode` takes them."""
        points = boxes = None
        if points_xy is not None:
            several = points_xy if points_xy.ndim == 3 else points_xy[:, None]
            xy = self._scaled(embedding, several)
            kinds = np.ones(xy.shape[:2]) if labels is None else labels
            of_points = torch.as_tensor(kinds, dtype=torch.int32, device=xy.device)
            points = (xy, of_points)
        if boxes_xyxy is not None:
            corners = boxes_xyxy.reshape(-1, 2, 2)
            boxes = self._scaled(embedding, corners).reshape(-1, 4)
        return self.network.sam_prompt_encoder(points=points, boxes=boxes, masks=masks)

    def _scaled(self, embedding: Sam2Embedding, xy: np.ndarray) -> Tensor:
        """(..., 2) px of the original image -> px of the network's input."""
        height, width = embedding.original_hw
        original = torch.as_tensor(xy, dtype=torch.float32, device=self.network.device)
        share = original / original.new_tensor([width, height])
        return share * self.network.image_size
