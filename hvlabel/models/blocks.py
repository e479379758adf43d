"""The parts that SAM's image encoder and HyperFree's have in common, with the published parameter names."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK_NORM_EPS = 1e-6  # not PyTorch's 1e-5


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape."""
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        normed = (x - mean) / torch.sqrt(variance + self.eps)
        weight = self.weight[:, None, None]  # (C, 1, 1)
        bias = self.bias[:, None, None]
        return normed * weight + bias


class Mlp(nn.Module):
    """Linear layers with ReLU between them, none at the end."""

    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        layers = [nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(dims)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dims[0]) -> (..., dims[-1])."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class BlockMlp(nn.Module):
    """The two linear layers of a transformer block."""

    def __init__(self, dim: int, hidden: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return self.lin2(self.act(self.lin1(x)))


class RelPosAttention(nn.Module):
    """Self-attention over a grid with decomposed relative positions (ViTDet)."""

    def __init__(self, dim: int, num_heads: int, table_side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        n_offsets = 2 * table_side - 1  # from one end of a side to the other, both ways
        self.rel_pos_h = nn.Parameter(torch.zeros(n_offsets, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(n_offsets, dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) -> (B, H, W, D)."""
        batch, height, width, dim = x.shape
        projected = self.qkv(x)  # (B, H, W, 3D)
        by_head = projected.reshape(batch, height * width, 3, self.num_heads, -1)  # (B, H*W, 3, heads, hd)
        qkv = by_head.permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, H*W, hd)
        bias = self._position_bias(q, height, width)  # (B, heads, H*W, H*W)
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        by_token = context.transpose(1, 2)  # (B, H*W, heads, hd)
        merged = by_token.reshape(batch, height, width, dim)
        return self.proj(merged)

    def _position_bias(self, q: Tensor, height: int, width: int) -> Tensor:
        """(B, heads, H*W, H*W) from the queries before they are scaled, as published."""
        grid = q.unflatten(2, (height, width))  # (B, heads, H, W, hd)
        of_rows = _relative_table(self.rel_pos_h, height)  # (H, H, hd)
        of_columns = _relative_table(self.rel_pos_w, width)
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, of_rows)
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, of_columns)
        bias = rows[..., :, None] + columns[..., None, :]  # (B, heads, H, W, H, W)
        return bias.flatten(4).flatten(2, 3)


def _relative_table(table: Tensor, side: int) -> Tensor:
    """(side, side, hd): entry [q, k] is the table's row for offset q - k; a table of another length is interpolated."""
    length = 2 * side - 1
    if table.shape[0] != length:
        channels_first = table.T[None]  # (1, hd, offsets): only the last axis is interpolated
        resized = F.interpolate(channels_first, size=length, mode="linear")[0]
        table = resized.T
    position = torch.arange(side)
    offset = position[:, None] - position[None, :] + side - 1  # 0 where q is farthest left of k
    return table[offset.to(table.device)]


class Block(nn.Module):
    """Pre-norm transformer block; window_px 0 attends over the whole grid."""

    def __init__(self, dim: int, num_heads: int, mlp_hidden: int, window_px: int, table_side: int) -> None:
        super().__init__()
        self.window_px = window_px
        self.norm1 = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.attn = RelPosAttention(dim, num_heads, table_side)
        self.norm2 = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.mlp = BlockMlp(dim, mlp_hidden, nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) -> (B, H, W, D)."""
        normed = self.norm1(x)
        attended = self._windowed(normed) if self.window_px else self.attn(normed)
        x = x + attended
        return x + self.mlp(self.norm2(x))

    def _windowed(self, x: Tensor) -> Tensor:
        """(B, H, W, D) after attention inside windows.

        As published, the grid is zero-padded after the norm, and padding takes part unmasked.
        """
        batch, height, width, dim = x.shape
        w = self.window_px
        right, below = -width % w, -height % w
        x = F.pad(x, (0, 0, 0, right, 0, below))  # to whole windows; pads are given from the last axis backwards
        rows = x.shape[1] // w
        columns = x.shape[2] // w
        split = x.reshape(batch, rows, w, columns, w, dim)
        windows = split.transpose(2, 3)  # (B, rows, columns, w, w, D)
        each_a_grid = windows.reshape(-1, w, w, dim)
        attended = self.attn(each_a_grid)
        apart = attended.reshape(batch, rows, columns, w, w, dim)
        merged = apart.transpose(2, 3)  # (B, rows, w, columns, w, D)
        whole = merged.reshape(batch, rows * w, columns * w, dim)
        return whole[:, :height, :width]


def rel_pos_lengths(state: Mapping[str, Tensor], encoder: str) -> list[int]:
    """Lengths 2n-1 of the blocks' position tables, n being the side they attend over. encoder: prefix of its keys."""
    lengths: list[int] = []
    while (key := f"{encoder}blocks.{len(lengths)}.attn.rel_pos_h") in state:
        lengths.append(state[key].shape[0])
    return lengths
