"""SAM's two-way transformer for many prompts on one image, with a third of the arithmetic.

The same function of the same weights as the modules of sam2 and of our HyperFree (which name their parts alike):

- The first layer sees the same image for every prompt, so its projections of the image are made once.
- Later, image tokens (thousands) are never projected: a projection of the few prompt tokens by the transposed weights
  gives the same products. q . (W x + b) = (W^T q) . x + q . b, where softmax over x does not see q . b; and
  sum p (W x + b) = W (sum p x) + b.
- The upscaling is matrix products over tokens; only masks are put into rows and columns.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

N_MASK_TOKENS = 4  # one mask for clear prompts, three for ambiguous ones
# image tokens of the prompts that a CPU decodes at once: few enough for its cache; bfloat16 has more to gain from large products
CACHED_BYTES_CPU = {torch.float32: 3 << 20, torch.bfloat16: 16 << 20}
MAX_AT_ONCE_CPU = 64
FEWEST_POINTS = 8  # products of fewer than four rows are rounded differently on some CPUs


@dataclass(frozen=True)
class Shared:
    """Projections of an image that all prompts share, made once.

    keys, values : (heads, N, d) for tokens that look at the image in the first layer
    queries      : (heads, N, d) for the image that looks at tokens in the first layer
    """

    keys: Tensor
    values: Tensor
    queries: Tensor


@dataclass(frozen=True)
class ImageSide:
    """What the decoder knows of the image before it sees the prompts.

    image  : (N, D) tokens, or (B, N, D) where each prompt has its own; N = product of grid_hw
    code   : (N, D) their position code
    finer  : (4N, D/4) and (16N, D/8) finer features in the order of _cells, or none
    shared : of an image that all prompts share
    """

    image: Tensor
    code: Tensor
    grid_hw: tuple[int, int]
    finer: tuple[Tensor, ...] = ()
    shared: Shared | None = None


def image_side(decoder: Any, image: Tensor, code: Tensor, high_res: list[Tensor]) -> ImageSide:
    """Of an image (1, D, g, g), dense prompt included, with position code (1, D, g, g), in the decoder's precision.

    high_res : two finer feature maps, finest first, (1, D/8, 4g, 4g) and (1, D/4, 2g, 2g), or none
    """
    dtype = decoder.iou_token.weight.dtype
    tokens, position = (x[0].flatten(1).T.to(dtype).contiguous() for x in (image, code))
    coded = tokens + position
    layer = decoder.transformer.layers[0]
    to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (to_image.num_heads, -1)).transpose(0, 1).contiguous()

    grid_hw = (image.shape[2], image.shape[3])
    return ImageSide(
        tokens,
        position,
        grid_hw,
        finer=tuple(by_cell(f[0], grid_hw).to(dtype) for f in reversed(high_res)),
        shared=Shared(
            keys=heads(to_image.k_proj(coded)),
            values=heads(to_image.v_proj(tokens)),
            queries=heads(to_tokens.q_proj(coded)),
        ),
    )


def half_precision(decoder: Any) -> Any:
    """A copy of a decoder that computes in bfloat16, all but the small heads that predict the IoU and the presence of an object."""
    half = copy.deepcopy(decoder).to(torch.bfloat16)
    half.iou_prediction_head.float()
    if getattr(half, "pred_obj_scores", False):
        half.pred_obj_score_head.float()
    return half


def own_tokens(decoder: Any) -> tuple[Tensor, int]:
    """The decoder's own tokens (n, D), and the place of its first mask token, which follows the IoU token."""
    score = [decoder.obj_score_token.weight] if getattr(decoder, "pred_obj_scores", False) else []
    return torch.cat([*score, decoder.iou_token.weight, decoder.mask_tokens.weight]), len(score) + 1


def _vectors(decoder: Any, tokens: Tensor) -> Tensor:
    """(B, 3, D/8) what the hypernetworks make of the tokens (B, 3, D) of the three masks."""
    of_three = decoder.output_hypernetworks_mlps[1:]
    return torch.stack([hyper(tokens[:, k]) for k, hyper in enumerate(of_three)], dim=1)


@dataclass(frozen=True)
class Masks:
    """Decoded masks above a predicted IoU, prompt by prompt.

    logits : (K, h, w) low resolution
    iou    : (K,) predicted
    prompt : (K,) index of the prompt each came from
    """

    logits: Tensor
    iou: Tensor
    prompt: Tensor

    def take(self, keep: Tensor | slice) -> Masks:
        """Those of a (K,) bool mask or of a range alone."""
        return Masks(self.logits[keep], self.iou[keep], self.prompt[keep])

    @staticmethod
    def joined(parts: Sequence[Masks]) -> Masks:
        """All of them, in their order; there is at least one part."""
        return Masks(*(torch.cat([getattr(p, name) for p in parts]) for name in ("logits", "iou", "prompt")))


def embeddable(points_xy: np.ndarray) -> np.ndarray:
    """Points (N, 2), a few repeated to FEWEST_POINTS, so that their embedding does not depend on how many they are."""
    return np.resize(points_xy, (max(len(points_xy), FEWEST_POINTS), 2))


def confident_masks(decoder: Any, side: ImageSide, sparse: Tensor, min_iou: float | None) -> Masks:
    """Those of the three masks of each prompt whose predicted IoU is above min_iou (None: all).

    Prompts without one are never upscaled. On a CPU all batches have the same number of rows, which products round by.

    decoder : a SAM mask decoder (output_upscaling, output_hypernetworks_mlps, iou_prediction_head)
    sparse  : (B, P, D) embedded prompts
    """
    own, first_mask = own_tokens(decoder)
    # the IoU token and those of the three masks; the single mask is not asked for
    read = [first_mask - 1, *range(first_mask + 1, first_mask + N_MASK_TOKENS)]
    parts = []
    per_prompt = side.image.numel() * side.image.element_size()
    on_cpu = sparse.device.type == "cpu"
    cached = CACHED_BYTES_CPU[own.dtype] if on_cpu else 0
    size = min(MAX_AT_ONCE_CPU, max(1, cached // per_prompt)) if on_cpu else max(1, len(sparse))
    for start in range(0, len(sparse), size):
        batch = sparse[start : start + size].to(own.dtype)
        n = len(batch)
        if on_cpu:
            batch = torch.cat([batch, batch[-1:].expand(size - n, -1, -1)])
        prompts = torch.cat([own.expand(len(batch), -1, -1), batch], dim=1)
        tokens, image = two_way(decoder.transformer, side, prompts, read)
        iou = decoder.iou_prediction_head(tokens[:, 0].float())[:, 1:]  # (B, 3)
        keep = torch.ones_like(iou, dtype=torch.bool) if min_iou is None else iou > min_iou
        keep[n:] = False
        used = keep.any(dim=1)
        hyper = _vectors(decoder, tokens[used, 1:])
        cells = _mask_cells(decoder, image if used.all() else image[used], hyper, side)
        prompt = keep.nonzero()[:, 0]
        parts.append(Masks(_in_rows(cells[keep[used]], side.grid_hw), iou[keep], start + prompt))
    return Masks.joined(parts)


def clear_masks(decoder: Any, side: ImageSide, sparse: Tensor) -> tuple[Tensor, Tensor]:
    """The mask for clear prompts (boxes, masks), one per prompt: logits (B, 4g, 4g) and predicted IoU (B,).

    side   : images (B, N, D), one per prompt
    sparse : (B, P, D) embedded prompts
    """
    own, first_mask = own_tokens(decoder)
    prompts = torch.cat([own.expand(len(sparse), -1, -1), sparse.to(own.dtype)], dim=1)
    tokens, image = two_way(decoder.transformer, side, prompts, [first_mask - 1, first_mask])
    iou = decoder.iou_prediction_head(tokens[:, 0].float())[:, 0]
    vector = decoder.output_hypernetworks_mlps[0](tokens[:, 1])
    cells = _mask_cells(decoder, image, vector[:, None], side)[:, 0]
    return _in_rows(cells, side.grid_hw), iou


def best_mask(decoder: Any, side: ImageSide, sparse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the three masks of one prompt on each image the one of the best predicted IoU.

    side   : images (B, N, D)
    sparse : (P, D) the embedded prompt
    Returns logits (B, 4g, 4g), the decoder's own tokens (B, T, D), and which mask it was, 1 to 3 (B,).
    """
    own, first_mask = own_tokens(decoder)
    prompts = torch.cat([own, sparse.to(own.dtype)]).expand(len(side.image), -1, -1)
    tokens, image = two_way(decoder.transformer, side, prompts, slice(0, len(own)))
    best = decoder.iou_prediction_head(tokens[:, first_mask - 1].float())[:, 1:].argmax(dim=1) + 1
    rows = torch.arange(len(best), device=best.device)
    vector = _vectors(decoder, tokens[:, first_mask + 1 :])[rows, best - 1]
    cells = _mask_cells(decoder, image, vector[:, None], side)[:, 0]
    return _in_rows(cells, side.grid_hw), tokens, best


def _mask_cells(decoder: Any, image: Tensor, hyper: Tensor, side: ImageSide) -> Tensor:
    """Image tokens (U, N, D) and vectors (U, M, D/8) -> logits (U, M, 16N) in the order of _cells.

    The published upscaling is two transposed convolutions of 2 x 2 with stride 2, each a matrix product per token. All
    stays in the order of tokens; only the masks that are wanted are put into rows and columns.
    """
    to_2x, norm, activation, to_4x, last_activation = decoder.output_upscaling
    x = _cells(to_2x, image)
    if side.finer:
        x += side.finer[0]
    x = _cells(to_4x, activation(_normed(norm, x)))
    if side.finer:
        x += side.finer[1]
    return hyper @ last_activation(x).transpose(1, 2)


def _in_rows(cells: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """(K, 16N) logits in the order of _cells, contiguous -> (K, 4g, 4g). Two neighbours in a row are moved as one number."""
    two = {2: torch.int32, 4: torch.int64}[cells.element_size()]
    height, width = grid_hw
    split = cells.view(two).unflatten(1, (height, width, 2, 2, 2))
    rows_then_columns = split.permute(0, 1, 3, 5, 2, 4)
    return rows_then_columns.reshape(len(cells), 4 * height, 2 * width).view(cells.dtype)


def _normed(norm: Any, x: Tensor) -> Tensor:
    """Layer norm of (..., C), computed in float32: the CPU's kernel for rows of few bfloat16 channels takes twice the time."""
    wide = F.layer_norm(x.float(), norm.weight.shape, norm.weight.float(), norm.bias.float(), norm.eps)
    return wide.to(x.dtype)


def _cells(conv: Any, x: Tensor) -> Tensor:
    """(U, n, D) through a transposed convolution of 2 x 2 with stride 2 -> (U, 4n, C): each token's four cells, row by row."""
    weight = conv.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (4C, D)
    return F.linear(x, weight, conv.bias.repeat(4)).unflatten(2, (4, -1)).flatten(1, 2)


def by_cell(features: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """(C, h, w) features, 2 or 4 times finer than the grid -> (h * w, C) in the order of _cells."""
    levels = (features.shape[1] // grid_hw[0]).bit_length() - 1
    split = features.unflatten(2, (grid_hw[1], *[2] * levels)).unflatten(1, (grid_hw[0], *[2] * levels))
    order = [axis + row for row in range(levels + 1) for axis in (1, levels + 2)]
    return split.permute(*order, 0).flatten(0, -2)


def two_way(transformer: Any, side: ImageSide, prompts: Tensor, wanted: slice | list[int]) -> tuple[Tensor, Tensor]:
    """prompts (B, T, D), output tokens included -> those of the tokens that are wanted (B, W, D), image (B, N, D)."""
    tokens, image = prompts, side.image
    for index, layer in enumerate(transformer.layers):
        if index == 0:
            tokens = layer.self_attn(tokens, tokens, tokens)
        else:
            coded = tokens + prompts
            tokens = tokens + layer.self_attn(coded, coded, tokens)
        tokens = layer.norm1(tokens)
        asking = tokens + prompts
        shared = side.shared if index == 0 else None
        if shared:
            seen = _look_at_shared(layer.cross_attn_token_to_image, asking, shared)
        else:
            coded_image = image + side.code
            seen = _look_at_image(layer.cross_attn_token_to_image, asking, coded_image, image)
        tokens = layer.norm2(tokens + seen)
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        to_tokens, answering = layer.cross_attn_image_to_token, tokens + prompts
        weights = _asked_shared(to_tokens, answering, shared) if shared else _asked(to_tokens, answering, coded_image)
        answers = _answers(to_tokens, tokens)
        told = image.baddbmm_(weights, answers) if index else torch.baddbmm(image, weights, answers)
        image = layer.norm4(told)
    tokens = tokens[:, wanted]
    asking = tokens + prompts[:, wanted]
    seen = _look_at_image(transformer.final_attn_token_to_image, asking, image + side.code, image)
    return transformer.norm_final_attn(tokens + seen), image


def _heads(attention: Any, x: Tensor) -> Tensor:
    """(B, T, inner) -> (B, heads, T, d)."""
    return x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)


def _out(attention: Any, x: Tensor) -> Tensor:
    """(B, heads, T, d) -> (B, T, D)."""
    return attention.out_proj(x.transpose(1, 2).flatten(2))


def _look_at_shared(attention: Any, asking: Tensor, shared: Shared) -> Tensor:
    q = _heads(attention, attention.q_proj(asking))  # (B, h, T, d)
    b, h, t, d = q.shape
    flat = q.transpose(0, 1).reshape(h, b * t, d)  # one product per head for all prompts
    weights = torch.softmax(flat @ shared.keys.transpose(1, 2) * d**-0.5, dim=-1)
    return _out(attention, (weights @ shared.values).reshape(h, b, t, d).transpose(0, 1))


def _look_at_image(attention: Any, asking: Tensor, coded_image: Tensor, image: Tensor) -> Tensor:
    q = _heads(attention, attention.q_proj(asking))
    b, h, t, d = q.shape
    weights = torch.softmax(_folded(q, attention.k_proj.weight) @ coded_image.transpose(1, 2), dim=-1)  # (B, h*T, N)
    context = (weights @ image).reshape(b, h, t, -1)
    seen = torch.einsum("bhtc,hdc->bhtd", context, _by_head(attention.v_proj.weight, h))
    return _out(attention, seen + attention.v_proj.bias.view(h, 1, d))


def _folded(x: Tensor, weight: Tensor) -> Tensor:
    """x (B, h, T, d) through the transposed weight (h*d, D), scaled for a softmax -> (B, h*T, D)."""
    h, d = x.shape[1], x.shape[3]
    return torch.einsum("bhtd,hdc->bhtc", x, _by_head(weight, h)).flatten(1, 2) * d**-0.5


def _asked(attention: Any, answering: Tensor, coded_image: Tensor) -> Tensor:
    """(B, N, h*T): how much each image token listens to each prompt token, by head."""
    k = _heads(attention, attention.k_proj(answering))
    b, h, t, d = k.shape
    offset = (k * attention.q_proj.bias.view(h, 1, d)).sum(-1).reshape(b, h * t, 1)
    scores = torch.baddbmm(
        offset * d**-0.5, _folded(k, attention.q_proj.weight), coded_image.transpose(1, 2)
    )  # (B, h*T, N)
    return _shares(scores.unflatten(1, (h, t)))


def _asked_shared(attention: Any, answering: Tensor, shared: Shared) -> Tensor:
    """The same of an image that all prompts share."""
    k = _heads(attention, attention.k_proj(answering))
    b, h, t, d = k.shape
    flat = k.transpose(0, 1).reshape(h, b * t, d) * d**-0.5
    scores = (flat @ shared.queries.transpose(1, 2)).reshape(h, b, t, -1)
    return _shares(scores.transpose(0, 1))


def _shares(scores: Tensor) -> Tensor:
    """(B, h, T, N) -> (B, N, h*T). The softmax runs over a few tokens; with the image innermost it is vectorised."""
    return torch.softmax(scores, dim=2).flatten(1, 2).transpose(1, 2)


def _answers(attention: Any, tokens: Tensor) -> Tensor:
    """(B, h*T, D): what each token and head adds to an image token that listens to nothing else.

    The shares of a head add up to one, so each head's answers carry their part of the bias.
    """
    v = _heads(attention, attention.v_proj(tokens))
    h, d = v.shape[1], v.shape[3]
    weight = attention.out_proj.weight.T.reshape(h, d, -1)  # (D, h*d) by head
    return (torch.einsum("bhtd,hdc->bhtc", v, weight) + attention.out_proj.bias / h).flatten(1, 2)


def _by_head(weight: Tensor, heads: int) -> Tensor:
    """(inner, D) -> (heads, d, D)."""
    return weight.unflatten(0, (heads, -1))
