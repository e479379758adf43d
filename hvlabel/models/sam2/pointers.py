"""Objects' pointers as memory tokens: a pointer is cut into tokens as wide as the memory, with a code of its age."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hvlabel.models.sam2.contract import Sam2Network

LONGEST_WAVE = 10_000  # of the code, as in the first Transformer


def pointer_tokens(network: Sam2Network, pointers: Sequence[tuple[int, Tensor]], longest: int) -> tuple[Tensor, Tensor]:
    """(B, tokens, mem) float32 with the code of their age, for keys, and the same without, for values.

    pointers : (distance in frames, (B, C)), each of the same objects
    longest  : distance that counts as one; an age is a share of it
    """
    stacked = torch.stack([pointer for _, pointer in pointers], dim=1)  # (B, P, C)
    cut = stacked.unflatten(2, (-1, network.mem_dim))  # (B, P, C/mem, mem)
    tokens = cut.flatten(1, 2)
    if not network.add_tpos_enc_to_obj_ptrs:
        return tokens, tokens
    n_channels = stacked.shape[2]
    width = n_channels if network.proj_tpos_enc_in_obj_ptrs else network.mem_dim
    distances = torch.tensor([distance for distance, _ in pointers], device=stacked.device)
    waves = _waves(distances / longest, width)  # (P, width)
    code = network.obj_ptr_tpos_proj(waves)  # (P, mem)
    tokens_per_pointer = n_channels // network.mem_dim
    per_token = code.repeat_interleave(tokens_per_pointer, dim=0)  # all tokens of a pointer are of one age
    return tokens + per_token, tokens


def n_pointer_tokens(network: Sam2Network) -> int:
    """How many tokens the pointers of an object take at most."""
    return network.max_obj_ptrs_in_encoder * network.hidden_dim // network.mem_dim


def _waves(x: Tensor, width: int) -> Tensor:
    """(P,) -> (P, width): sines, then cosines, of wavelengths that grow to LONGEST_WAVE."""
    half = width // 2
    pair = torch.arange(half, device=x.device) // 2  # two neighbours share a wavelength, as in the package
    wavelength = LONGEST_WAVE ** (2 * pair / half)
    angle = x[:, None] / wavelength
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
