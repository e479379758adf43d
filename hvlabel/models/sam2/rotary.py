"""Attention with rotary positions, arranged so that a rotation is a few operations on halves of the channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.models.sam2.contract import RotaryAttentionParts


class RotaryAttention:
    """Weights of one of the package's rotary attentions, for (B, N, C) tokens of a grid.

    The package rotates each even channel of a head with the odd one after it. Here the projections give all even
    channels first, so that the pairs lie in two halves; products of queries and keys do not depend on the order of
    channels.
    """

    def __init__(self, module: RotaryAttentionParts, grid_hw: tuple[int, int], dtype: torch.dtype) -> None:
        self.n_heads = int(module.num_heads)
        self.to_q = self._in_halves(module.q_proj, dtype)
        self.to_k = self._in_halves(module.k_proj, dtype)
        self.to_v = _weight_and_bias(module.v_proj, dtype)
        self.to_out = _weight_and_bias(module.out_proj, dtype)
        height, width = grid_hw
        rotations = module.compute_cis(end_x=width, end_y=height)  # (N, d/2) complex of length 1
        rotations = rotations.to(module.q_proj.weight.device)
        self.cos = rotations.real.to(dtype)
        self.sin = rotations.imag.to(dtype)

    def queries(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, heads, N, d), rotated."""
        projected = self.heads(F.linear(x, *self.to_q))
        return self.rotated(projected)

    def keys(self, x: Tensor, *, with_bias: bool = True) -> Tensor:
        """(B, N, C) -> (B, heads, N, d), not rotated.

        with_bias : false for one part of a sum whose other part has it
        """
        weight, bias = self.to_k
        return self.heads(F.linear(x, weight, bias if with_bias else None))

    def values(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, heads, N, d)."""
        return self.heads(F.linear(x, *self.to_v))

    def read(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(B, N, C): what the queries read, their heads joined."""
        context = F.scaled_dot_product_attention(queries, keys, values)
        merged = context.transpose(1, 2).flatten(2)  # (B, N, heads * d)
        return F.linear(merged, *self.to_out)

    def heads(self, x: Tensor) -> Tensor:
        """(B, N, heads * d) -> (B, heads, N, d)."""
        by_head = x.unflatten(-1, (self.n_heads, -1))  # (B, N, heads, d)
        return by_head.transpose(1, 2)

    def rotated(self, x: Tensor) -> Tensor:
        """(B, heads, N, d) rotated by the place of each token: even * cos - odd * sin, even * sin + odd * cos."""
        even, odd = x.chunk(2, dim=-1)
        rotated = torch.empty_like(x)
        # written into their place: stacking two results would copy both
        first, second = rotated.chunk(2, dim=-1)
        torch.mul(even, self.cos, out=first).addcmul_(odd, self.sin, value=-1)
        torch.mul(even, self.sin, out=second).addcmul_(odd, self.cos)
        return rotated

    def _in_halves(self, linear: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight and bias with even channels of each head before odd ones."""
        weight = self._evens_first(linear.weight)
        bias = self._evens_first(linear.bias)
        return weight.to(dtype).contiguous(), bias.to(dtype)

    def _evens_first(self, x: Tensor) -> Tensor:
        """(heads * d, ...) with its rows put into the new order."""
        pairs = x.unflatten(0, (self.n_heads, -1, 2))  # (heads, d/2, 2, ...)
        return pairs.transpose(1, 2).flatten(0, 2)


def _weight_and_bias(linear: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return linear.weight.to(dtype), linear.bias.to(dtype)
