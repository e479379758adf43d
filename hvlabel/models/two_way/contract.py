"""The parts of a SAM mask decoder that are read here, as sam2 and our HyperFree and SAM name them.

D is the width of tokens, d that of one head; both packages keep `nn.ModuleList`s, which do not say what is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard, cast

from torch import Tensor, nn


class AttentionParts(Protocol):
    """Attention whose inner width, heads * d, is D among tokens and D/2 between tokens and image."""

    num_heads: int
    q_proj: nn.Linear  # D -> heads * d
    k_proj: nn.Linear
    v_proj: nn.Linear
    out_proj: nn.Linear  # heads * d -> D

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, Nq, D), (B, Nk, D), (B, Nk, D) -> (B, Nq, D)."""


class LayerParts(Protocol):
    """Tokens among themselves, tokens to image, MLP, image to tokens; a norm after each."""

    self_attn: AttentionParts
    norm1: nn.LayerNorm
    cross_attn_token_to_image: AttentionParts
    norm2: nn.LayerNorm
    mlp: nn.Module
    norm3: nn.LayerNorm
    norm4: nn.LayerNorm
    cross_attn_image_to_token: AttentionParts


class TransformerParts(Protocol):
    """Layers, and a last attention from the tokens to the image."""

    layers: nn.ModuleList  # of LayerParts
    norm_final_attn: nn.LayerNorm

    @property
    def final_attn_token_to_image(self) -> AttentionParts:
        """The last attention."""


class Convolution(Protocol):
    """A transposed convolution of 2 x 2 with stride 2."""

    weight: Tensor  # (D, C, 2, 2)
    bias: Tensor  # (C,)


class ChannelNorm(Protocol):
    """A layer norm over channels."""

    weight: Tensor
    bias: Tensor
    eps: float


class DecoderParts(Protocol):
    """Prompt tokens and image tokens to masks and their predicted IoU.

    Its output tokens are that of the IoU and one per mask: the first for clear prompts, three for ambiguous ones.
    """

    iou_token: nn.Embedding
    mask_tokens: nn.Embedding
    output_upscaling: nn.Sequential  # see upscaling_of
    output_hypernetworks_mlps: nn.ModuleList  # of MLPs D -> D/8, one per mask

    @property
    def transformer(self) -> TransformerParts:
        """The two-way transformer."""

    @property
    def iou_prediction_head(self) -> nn.Module:
        """(B, D) tokens of the IoU -> (B, masks)."""


class PresenceParts(DecoderParts, Protocol):
    """SAM2's, where it also predicts whether the object is there at all; the token for that comes first."""

    obj_score_token: nn.Embedding

    @property
    def pred_obj_score_head(self) -> nn.Module:
        """(B, D) tokens of the object -> (B, 1), above 0 where it is there."""


def layers_of(transformer: TransformerParts) -> Sequence[LayerParts]:
    """The layers, with their type."""
    return cast("Sequence[LayerParts]", transformer.layers)


def upscaling_of(decoder: DecoderParts) -> tuple[Convolution, ChannelNorm, nn.Module, Convolution, nn.Module]:
    """The steps of the upscaling: to twice the grid, norm, activation, to four times the grid, activation."""
    steps: Any = tuple(decoder.output_upscaling)
    return steps


def scores_presence(decoder: object) -> TypeGuard[PresenceParts]:
    """Whether a decoder also predicts if its object is there."""
    return bool(getattr(decoder, "pred_obj_scores", False))
