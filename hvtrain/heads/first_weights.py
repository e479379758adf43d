"""First weights under which prompts matter from the first step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def listen_to_prompts(decoder: Any, prompts: Any) -> None:
    """Give a SAM mask decoder and prompt encoder first weights under which a mask depends on its prompt at once.

    With ordinary first weights the decoder gives one answer whatever the prompt, and stays there for thousands of
    steps. Here a prompt token attends to its own place (queries and keys share their weights and the position code is
    sharp), what it reads there is passed on unchanged, other branches start small, and an empty mask is the first
    answer.
    """
    layers = list(decoder.transformer.layers)
    to_image = [layer.cross_attn_token_to_image for layer in layers]
    to_tokens = [layer.cross_attn_image_to_token for layer in layers]
    last = decoder.transformer.final_attn_token_to_image
    with torch.no_grad():
        prompts.pe_layer.positional_encoding_gaussian_matrix.mul_(2.0)
        for embedding in prompts.point_embeddings:
            embedding.weight.mul_(0.2)
        for embedding in (decoder.mask_tokens, decoder.iou_token, prompts.not_a_point_embed, prompts.no_mask_embed):
            embedding.weight.mul_(0.1)
        for layer in layers:
            linears = [module for module in layer.mlp.modules() if isinstance(module, nn.Linear)]
            closing = linears[-1]
            nn.init.zeros_(closing.weight)
            nn.init.zeros_(closing.bias)
        first = layers[0].self_attn
        for linear in (first.v_proj, first.out_proj):
            nn.init.eye_(linear.weight)
            nn.init.zeros_(linear.bias)
        for attention in (*to_image, *to_tokens, last):
            attention.q_proj.weight.mul_(4.0)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            nn.init.orthogonal_(attention.v_proj.weight)
            attention.out_proj.weight.copy_(attention.v_proj.weight.T)
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
                nn.init.zeros_(linear.bias)
        to_image[0].out_proj.weight.mul_(3.0)
        for attention in (layers[1].self_attn, to_image[1], last, *to_tokens):
            attention.out_proj.weight.mul_(0.1)
        # the product of the two is below 0 everywhere: no mask
        decoder.output_upscaling[3].bias[0] = 3.0
        for hypernetwork in decoder.output_hypernetworks_mlps:
            hypernetwork.layers[-1].bias[0] = -0.5
