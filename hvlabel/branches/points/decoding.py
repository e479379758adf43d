"""Points to low-resolution masks, by the way of decoding that the settings ask for."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hvlabel.branches.points.contract import CropRun
from hvlabel.models.two_way import LOW_RES_CLAMP, DecodedMasks


def decoded(run: CropRun, points_xy: np.ndarray) -> DecodedMasks:
    """Low-resolution masks above the predicted IoU. points_xy: (N, 2) float64 px of the crop."""
    settings = run.settings
    min_iou = settings.pred_iou_thresh if settings.pred_iou_thresh > 0 else None
    if settings.multimask_output and not settings.use_m2m:
        # the network drops masks before it makes their logits
        return run.model.decode_above(run.embedding, points_xy, min_iou)
    logits, iou = run.model.decode(run.embedding, points_xy, multimask=settings.multimask_output)  # (N, M, ...)
    point_idx = torch.arange(len(points_xy), device=iou.device)
    prompt = point_idx.repeat_interleave(logits.shape[1])  # (N*M,)
    logits, iou = logits.flatten(0, 1), iou.flatten(0, 1)  # (N*M, ...)
    if settings.use_m2m:
        of_mask_xy = points_xy[prompt.cpu().numpy()]  # (N*M, 2)
        logits, iou = _refined(run, of_mask_xy, logits, at_once=len(points_xy))
    masks = DecodedMasks(logits, iou, prompt)
    return masks if min_iou is None else masks.take(iou > min_iou)


def _refined(run: CropRun, points_xy: np.ndarray, logits: Tensor, at_once: int) -> tuple[Tensor, Tensor]:
    """Every mask (K, h, w) decoded once more with itself as mask prompt: logits (K, h, w) and predicted IoU (K,)."""
    refined_logits, refined_iou = [], []
    # three masks of each point were made: in parts, or they would take three times the memory
    for start in range(0, len(points_xy), at_once):
        part = slice(start, start + at_once)
        prior = logits[part, None].clamp(-LOW_RES_CLAMP, LOW_RES_CLAMP)
        single, iou = run.model.decode(run.embedding, points_xy[part], prior, multimask=False)
        refined_logits.append(single[:, 0])
        refined_iou.append(iou[:, 0])
    return torch.cat(refined_logits), torch.cat(refined_iou)
