"""Attention between the few tokens of each prompt and the thousands of an image, which are never projected twice.

B prompts, T tokens of each, N image tokens of width D; h heads of width d.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hvlabel.models.two_way.contract import AttentionParts, LayerParts


@dataclass(frozen=True)
class SharedProjections:
    """Projections of an image that all prompts share, made once.

    keys, values : (h, N, d) for tokens that look at the image in the first layer
    queries      : (h, N, d) for the image that looks at tokens in the first layer
    """

    keys: Tensor
    values: Tensor
    queries: Tensor


def shared_projections(layer: LayerParts, image: Tensor, coded_image: Tensor) -> SharedProjections:
    """What the first layer makes of image tokens (N, D), without and with their position code."""
    to_image = layer.cross_attn_token_to_image
    to_tokens = layer.cross_attn_image_to_token
    return SharedProjections(
        keys=_image_heads(to_image, to_image.k_proj(coded_image)),
        values=_image_heads(to_image, to_image.v_proj(image)),
        queries=_image_heads(to_tokens, to_tokens.q_proj(coded_image)),
    )


def read_shared_image(attention: AttentionParts, coded_tokens: Tensor, shared: SharedProjections) -> Tensor:
    """(B, T, D): what tokens (B, T, D), position code included, read from an image that all prompts share."""
    queries = _heads(attention, attention.q_proj(coded_tokens))
    b, h, t, d = queries.shape
    # one product per head for all prompts: its matrix is tall enough for all cores
    together = queries.transpose(0, 1).reshape(h, b * t, d)
    scores = together @ shared.keys.transpose(1, 2) * d**-0.5  # (h, B*T, N)
    weights = torch.softmax(scores, dim=-1)
    by_head = weights @ shared.values  # (h, B*T, d)
    values = by_head.reshape(h, b, t, d)
    return _merged(attention, values.transpose(0, 1))


def read_image(attention: AttentionParts, coded_tokens: Tensor, image: Tensor, coded_image: Tensor) -> Tensor:
    """(B, T, D): what tokens (B, T, D) read from images (B, N, D), one per prompt."""
    queries = _heads(attention, attention.q_proj(coded_tokens))
    b, h, t, d = queries.shape
    # the bias of the keys adds the same to all scores of a token, which its softmax does not see
    folded = _through_transposed(queries, attention.k_proj.weight)  # (B, h*T, D): no keys of N tokens are made
    scores = folded @ coded_image.transpose(1, 2)
    weights = torch.softmax(scores, dim=-1)  # (B, h*T, N)
    context = (weights @ image).reshape(b, h, t, -1)  # (B, h, T, D)
    v_weight = _by_head(attention.v_proj.weight, h)  # (h, d, D)
    values = torch.einsum("bhtc,hdc->bhtd", context, v_weight)
    # weights of a token sum to one, so the bias of the values counts once
    v_bias = attention.v_proj.bias.view(h, 1, d)
    return _merged(attention, values + v_bias)


def attention_weights(attention: AttentionParts, coded_tokens: Tensor, coded_image: Tensor) -> Tensor:
    """(B, N, h*T): how much each image token (B, N, D) attends to each token (B, T, D), head by head."""
    keys = _heads(attention, attention.k_proj(coded_tokens))
    b, h, t, d = keys.shape
    # here the bias of the queries stays: it adds to each token's score another amount
    query_bias = attention.q_proj.bias.view(h, 1, d)
    offsets = (keys * query_bias).sum(-1).reshape(b, h * t, 1)
    scaled = offsets * d**-0.5  # as folded is already
    folded = _through_transposed(keys, attention.q_proj.weight)
    scores = torch.baddbmm(scaled, folded, coded_image.transpose(1, 2))  # (B, h*T, N)
    return _softmax_over_tokens(scores.unflatten(1, (h, t)))


def shared_attention_weights(attention: AttentionParts, coded_tokens: Tensor, shared: SharedProjections) -> Tensor:
    """The same for an image that all prompts share."""
    keys = _heads(attention, attention.k_proj(coded_tokens))
    b, h, t, d = keys.shape
    together = keys.transpose(0, 1).reshape(h, b * t, d)
    scaled = together * d**-0.5  # (h, B*T, d)
    products = scaled @ shared.queries.transpose(1, 2)  # (h, B*T, N)
    scores = products.reshape(h, b, t, -1)
    return _softmax_over_tokens(scores.transpose(0, 1))


def values_out(attention: AttentionParts, tokens: Tensor) -> Tensor:
    """(B, h*T, D): what an image token gains from a token (B, T, D) that alone it attends to, head by head.

    The weights of a head sum to one, so each head carries its part of the bias.
    """
    values = _heads(attention, attention.v_proj(tokens))
    h, d = values.shape[1], values.shape[3]
    weight = attention.out_proj.weight.T.reshape(h, d, -1)  # (h, d, D)
    out = torch.einsum("bhtd,hdc->bhtc", values, weight)
    with_bias = out + attention.out_proj.bias / h
    return with_bias.flatten(1, 2)


def _softmax_over_tokens(scores: Tensor) -> Tensor:
    """(B, h, T, N) -> (B, N, h*T). The softmax runs over a few tokens; with the image innermost it is vectorised."""
    weights = torch.softmax(scores, dim=2)
    return weights.flatten(1, 2).transpose(1, 2)


def _through_transposed(x: Tensor, weight: Tensor) -> Tensor:
    """x (B, h, T, d) through the transposed weight (h*d, D), scaled for a softmax -> (B, h*T, D)."""
    h, d = x.shape[1], x.shape[3]
    folded = torch.einsum("bhtd,hdc->bhtc", x, _by_head(weight, h))
    return folded.flatten(1, 2) * d**-0.5


def _by_head(weight: Tensor, heads: int) -> Tensor:
    """(h*d, D) -> (h, d, D)."""
    return weight.unflatten(0, (heads, -1))


def _heads(attention: AttentionParts, x: Tensor) -> Tensor:
    """(B, T, h*d) -> (B, h, T, d)."""
    by_head = x.unflatten(-1, (attention.num_heads, -1))  # (B, T, h, d)
    return by_head.transpose(1, 2)


def _image_heads(attention: AttentionParts, x: Tensor) -> Tensor:
    """(N, h*d) -> (h, N, d)."""
    by_head = x.unflatten(-1, (attention.num_heads, -1))  # (N, h, d)
    return by_head.transpose(0, 1).contiguous()


def _merged(attention: AttentionParts, x: Tensor) -> Tensor:
    """(B, h, T, d) -> (B, T, D)."""
    merged = x.transpose(1, 2).flatten(2)  # (B, T, h*d)
    return attention.out_proj(merged)
