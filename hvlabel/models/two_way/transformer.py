"""The two-way transformer on tokens of many prompts."""

from __future__ import annotations

import torch
from torch import Tensor

from hvlabel.models.two_way.attention import (
    attention_weights,
    read_image,
    read_shared_image,
    shared_attention_weights,
    values_out,
)
from hvlabel.models.two_way.contract import LayerParts, TransformerParts, layers_of
from hvlabel.models.two_way.image import ImageSide


def two_way(
    transformer: TransformerParts, side: ImageSide, prompts: Tensor, kept: slice | list[int]
) -> tuple[Tensor, Tensor]:
    """Tokens (B, K, D) and images (B, N, D) after all layers.

    prompts : (B, T, D) tokens, the decoder's output tokens included; they are their own position code
    kept    : which of the T the caller reads; the last attention is spared for the others
    """
    tokens, image = prompts, side.image
    for index, layer in enumerate(layers_of(transformer)):
        tokens = _among_tokens(layer, tokens, prompts, first=index == 0)
        to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        if index == 0 and side.shared is not None:
            read = read_shared_image(to_image, tokens + prompts, side.shared)
            tokens = _after_reading(layer, tokens, read)
            weights = shared_attention_weights(to_tokens, tokens + prompts, side.shared)  # (B, N, h*T)
        else:
            coded_image = image + side.code
            read = read_image(to_image, tokens + prompts, image, coded_image)
            tokens = _after_reading(layer, tokens, read)
            weights = attention_weights(to_tokens, tokens + prompts, coded_image)
        values = values_out(to_tokens, tokens)  # (B, h*T, D)
        # the caller's image is read again for other prompts; later ones are our own and written over
        updated = torch.baddbmm(image, weights, values) if index == 0 else image.baddbmm_(weights, values)
        image = layer.norm4(updated)  # (B, N, D)
    tokens = tokens[:, kept]
    coded_tokens = tokens + prompts[:, kept]
    read = read_image(transformer.final_attn_token_to_image, coded_tokens, image, image + side.code)
    return transformer.norm_final_attn(tokens + read), image


def _among_tokens(layer: LayerParts, tokens: Tensor, prompts: Tensor, *, first: bool) -> Tensor:
    """(B, T, D) after self-attention; as published, the first layer has neither position code nor residual there."""
    if first:
        return layer.norm1(layer.self_attn(tokens, tokens, tokens))
    coded = tokens + prompts
    return layer.norm1(tokens + layer.self_attn(coded, coded, tokens))


def _after_reading(layer: LayerParts, tokens: Tensor, read: Tensor) -> Tensor:
    """(B, T, D) with what they read from the image, through the MLP."""
    tokens = layer.norm2(tokens + read)
    return layer.norm3(tokens + layer.mlp(tokens))
