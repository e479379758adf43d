"""Embedded prompts to masks: only those that are confident, or best, are upscaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hvlabel.models.two_way.contract import DecoderParts, scores_presence
from hvlabel.models.two_way.image import ImageSide
from hvlabel.models.two_way.transformer import two_way
from hvlabel.models.two_way.upscaling import in_rows, mask_cells

LOW_RES_CLAMP = 32.0  # SAM2 clamps logits before they become a mask prompt
N_MASK_TOKENS = 4  # one mask for clear prompts, three for ambiguous ones
# image tokens that a CPU decodes at once: few enough for its cache; bfloat16 has more to gain from large products
CACHED_BYTES_CPU = {torch.float32: 3 << 20, torch.bfloat16: 16 << 20}
MAX_AT_ONCE_CPU = 64
FEWEST_POINTS = 8  # products of fewer than four rows are rounded differently on some CPUs


@dataclass(frozen=True)
class DecodedMasks:
    """Masks above a predicted IoU, prompt by prompt.

    logits : (K, h, w) low resolution
    iou    : (K,) predicted
    prompt : (K,) index of the prompt each came from
    """

    logits: Tensor
    iou: Tensor
    prompt: Tensor

    def take(self, keep: Tensor | slice) -> DecodedMasks:
        """Those of a (K,) bool mask, of indices or of a range alone."""
        return DecodedMasks(self.logits[keep], self.iou[keep], self.prompt[keep])

    @staticmethod
    def joined(parts: Sequence[DecodedMasks]) -> DecodedMasks:
        """All of them, in their order; there is at least one part."""
        logits = torch.cat([part.logits for part in parts])
        iou = torch.cat([part.iou for part in parts])
        prompt = torch.cat([part.prompt for part in parts])
        return DecodedMasks(logits, iou, prompt)


def confident_masks(decoder: DecoderParts, side: ImageSide, sparse: Tensor, min_iou: float | None) -> DecodedMasks:
    """Those of the three masks of each prompt whose predicted IoU is above min_iou (None: all).

    sparse : (B, P, D) embedded prompts
    Prompts without one are never upscaled. On a CPU all batches have the same number of rows, which products round by.
    """
    size = _prompts_at_once(decoder, side, sparse)
    parts = []
    for start in range(0, len(sparse), size):
        prompts = sparse[start : start + size]
        batch = _confident_of_batch(decoder, side, prompts, size, min_iou)
        prompt = start + batch.prompt  # of all prompts
        parts.append(DecodedMasks(batch.logits, batch.iou, prompt))
    return DecodedMasks.joined(parts)


def clear_masks(decoder: DecoderParts, side: ImageSide, sparse: Tensor) -> tuple[Tensor, Tensor]:
    """The mask for clear prompts (boxes, masks), one per prompt: logits (B, 4g, 4g) and predicted IoU (B,).

    side   : images (B, N, D), one per prompt
    sparse : (B, P, D) embedded prompts
    """
    outputs, first_mask = output_tokens(decoder)
    outputs_of_each = outputs.expand(len(sparse), -1, -1)
    prompts = torch.cat([outputs_of_each, sparse.to(outputs.dtype)], dim=1)  # (B, n + P, D)
    kept = [first_mask - 1, first_mask]  # the IoU's token and that of the single mask
    tokens, image = two_way(decoder.transformer, side, prompts, kept)
    iou_tokens = tokens[:, 0].float()
    iou = decoder.iou_prediction_head(iou_tokens)[:, 0]
    vectors = decoder.output_hypernetworks_mlps[0](tokens[:, 1])  # (B, D/8)
    cells = mask_cells(decoder, image, vectors[:, None], side.finer)
    return in_rows(cells[:, 0], side.grid_hw), iou


def best_mask(decoder: DecoderParts, side: ImageSide, sparse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the three masks of one prompt on each image the one of the best predicted IoU.

    side   : images (B, N, D)
    sparse : (P, D) the embedded prompt
    Returns logits (B, 4g, 4g), the output tokens (B, T, D), and which mask it was, 1 to 3 (B,).
    """
    outputs, first_mask = output_tokens(decoder)
    of_one_image = torch.cat([outputs, sparse.to(outputs.dtype)])  # (n + P, D)
    prompts = of_one_image.expand(len(side.image), -1, -1)
    kept = slice(0, len(outputs))  # the prompts' own tokens are not read again
    tokens, image = two_way(decoder.transformer, side, prompts, kept)
    iou_tokens = tokens[:, first_mask - 1].float()
    iou = decoder.iou_prediction_head(iou_tokens)  # (B, 4)
    best = iou[:, 1:].argmax(dim=1) + 1  # mask 0 is the one for clear prompts
    rows = torch.arange(len(best), device=best.device)
    of_three = _vectors_of_three(decoder, tokens[:, first_mask + 1 :])  # (B, 3, D/8)
    vectors = of_three[rows, best - 1]  # (B, D/8)
    cells = mask_cells(decoder, image, vectors[:, None], side.finer)
    return in_rows(cells[:, 0], side.grid_hw), tokens, best


def output_tokens(decoder: DecoderParts) -> tuple[Tensor, int]:
    """The decoder's output tokens (n, D), and the index of the first mask's, which follows the IoU's."""
    weights = [decoder.iou_token.weight, decoder.mask_tokens.weight]
    if scores_presence(decoder):
        weights.insert(0, decoder.obj_score_token.weight)
    return torch.cat(weights), len(weights) - 1


def embeddable(points_xy: np.ndarray) -> np.ndarray:
    """Points (N, 2), a few repeated to FEWEST_POINTS, so that their embedding does not depend on how many they are."""
    n_points = max(len(points_xy), FEWEST_POINTS)
    return np.resize(points_xy, (n_points, 2))


def _prompts_at_once(decoder: DecoderParts, side: ImageSide, sparse: Tensor) -> int:
    """How many prompts are decoded at once: on a CPU as many as its cache holds, else all."""
    if sparse.device.type != "cpu":
        return max(1, len(sparse))
    bytes_per_prompt = side.image.numel() * side.image.element_size()
    cached = CACHED_BYTES_CPU[decoder.iou_token.weight.dtype]
    return min(MAX_AT_ONCE_CPU, max(1, cached // bytes_per_prompt))


def _confident_of_batch(
    decoder: DecoderParts, side: ImageSide, sparse: Tensor, size: int, min_iou: float | None
) -> DecodedMasks:
    """The same of up to `size` prompts."""
    outputs, first_mask = output_tokens(decoder)
    n = len(sparse)
    batch = sparse.to(outputs.dtype)
    if batch.device.type == "cpu":
        filling = batch[-1:].expand(size - n, -1, -1)
        batch = torch.cat([batch, filling])
    outputs_of_each = outputs.expand(len(batch), -1, -1)
    prompts = torch.cat([outputs_of_each, batch], dim=1)  # (B, n + P, D)
    # the IoU token and those of the three masks; the single mask is left out
    kept = [first_mask - 1, *range(first_mask + 1, first_mask + N_MASK_TOKENS)]
    tokens, image = two_way(decoder.transformer, side, prompts, kept)
    iou_tokens = tokens[:, 0].float()  # the head is float32, whatever the decoder is
    iou = decoder.iou_prediction_head(iou_tokens)[:, 1:]  # (B, 3)
    keep = torch.ones_like(iou, dtype=torch.bool) if min_iou is None else iou > min_iou
    keep[n:] = False  # what only filled the batch up
    used = keep.any(dim=1)  # prompts that are upscaled
    vectors = _vectors_of_three(decoder, tokens[used, 1:])
    used_image = image if used.all() else image[used]  # indexing copies
    cells = mask_cells(decoder, used_image, vectors, side.finer)
    logits = in_rows(cells[keep[used]], side.grid_hw)  # (K, 4g, 4g)
    prompt = keep.nonzero()[:, 0]
    return DecodedMasks(logits, iou[keep], prompt)


def _vectors_of_three(decoder: DecoderParts, tokens: Tensor) -> Tensor:
    """(B, 3, D/8) what the hypernetworks make of the tokens (B, 3, D) of the three masks."""
    of_three = decoder.output_hypernetworks_mlps[1:]
    vectors = [hypernetwork(tokens[:, k]) for k, hypernetwork in enumerate(of_three)]
    return torch.stack(vectors, dim=1)
