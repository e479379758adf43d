"""The parts of the package's SAM2Base that are read here; the package carries no types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class RotaryAttentionParts(Protocol):
    """Attention whose queries and keys are rotated by the place of their token."""

    num_heads: int
    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    out_proj: nn.Linear

    def compute_cis(self, *, end_x: int, end_y: int) -> Tensor:
        """(N, d/2) complex of absolute value 1: the rotation of each pair of channels at each place of a grid."""


class MemoryLayerParts(Protocol):
    """A frame's tokens among themselves, tokens to memory, MLP; a norm before each."""

    norm1: nn.LayerNorm
    self_attn: RotaryAttentionParts
    norm2: nn.LayerNorm
    cross_attn_image: RotaryAttentionParts
    norm3: nn.LayerNorm
    linear1: nn.Linear
    activation: Callable[[Tensor], Tensor]
    linear2: nn.Linear


class MemoryAttentionParts(Protocol):
    """Layers, and a last norm."""

    pos_enc_at_input: bool
    layers: Sequence[MemoryLayerParts]
    norm: nn.LayerNorm


class MemoryEncoderParts(Protocol):
    """A frame's features and masks to what later frames read."""

    pix_feat_proj: nn.Conv2d
    mask_downsampler: Any  # encoder: a Sequential of convolutions, norms over channels and activations
    fuser: Any  # layers: ConvNeXt blocks with dwconv, norm, pwconv1, act, pwconv2, gamma
    out_proj: nn.Module
    position_encoding: Callable[[Tensor], Tensor]


class Sam2Network(Protocol):
    """SAM2Base, as far as prompts and memory need it."""

    device: torch.device
    image_size: int  # px, side of the input
    num_feature_levels: int
    sam_image_embedding_size: int  # tokens along a side of the coarsest level
    hidden_dim: int  # channels of that level
    sam_prompt_encoder: Any
    sam_mask_decoder: Any
    directly_add_no_mem_embed: bool
    no_mem_embed: Tensor  # (1, 1, C), stands for the memory of a single image

    num_maskmem: int  # frames remembered, the prompted one included
    mem_dim: int  # channels of the memory
    maskmem_tpos_enc: Tensor  # (num_maskmem, 1, 1, mem), code of a frame's age
    memory_attention: MemoryAttentionParts
    memory_encoder: MemoryEncoderParts
    sigmoid_scale_for_mem_enc: float
    sigmoid_bias_for_mem_enc: float
    no_obj_embed_spatial: Tensor | None  # (1, mem), added where an object is not on a frame

    max_obj_ptrs_in_encoder: int
    obj_ptr_proj: nn.Module
    add_tpos_enc_to_obj_ptrs: bool
    proj_tpos_enc_in_obj_ptrs: bool
    obj_ptr_tpos_proj: nn.Module
    pred_obj_scores: bool
    fixed_no_obj_ptr: bool
    no_obj_ptr: Tensor  # (1, C)

    def forward_image(self, image: Tensor) -> dict[str, list[Tensor]]:
        """backbone_fpn and vision_pos_enc of (B, 3, S, S), per level, finest first."""

    # of the frame on which objects start
    track_step: Callable[..., dict[str, Tensor]]
    _encode_new_memory: Callable[..., tuple[Tensor, Any]]
    _prepare_backbone_features: Callable[..., tuple[Any, list[Tensor], list[Tensor], list[tuple[int, int]]]]
