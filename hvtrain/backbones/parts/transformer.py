"""The plain pre-norm transformer block, with the parameter names of published vision transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int]


class Attention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)  # rows: all queries, all keys, all values
        self.proj = nn.Linear(dim, dim)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, heads, N, D / heads), of tokens (B, N, D)."""
        batch, n_tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, n_tokens, 3, self.heads, -1)
        by_kind = qkv.permute(2, 0, 3, 1, 4)  # (3, B, heads, N, D / heads)
        q, k, v = by_kind.unbind(0)
        return q, k, v

    def merged(self, heads: Tensor) -> Tensor:
        """(B, N, D) tokens of (B, heads, N, D / heads), through the last projection."""
        side_by_side = heads.transpose(1, 2).flatten(2)
        return self.proj(side_by_side)

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D); the grid of the tokens does not matter to it."""
        q, k, v = self.split(x)
        return self.merged(F.scaled_dot_product_attention(q, k, v))


class Mlp(nn.Module):
    """The two linear layers of a block, with an exact GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each after a norm and with a residual.

    drop_path : probability with which a sample skips a branch in training
    """

    MLP_RATIO = 4

    def __init__(
        self, dim: int, heads: int, *, eps: float, attention: nn.Module | None = None, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads) if attention is None else attention
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, self.MLP_RATIO * dim)
        self.drop_path = drop_path

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D). grid: rows and columns of the tokens, for an attention that asks for it."""
        attended = self.attn(self.norm1(x), grid)
        x = x + self._kept(attended)
        mixed = self.mlp(self.norm2(x))
        return x + self._kept(mixed)

    def _kept(self, branch: Tensor) -> Tensor:
        """A branch (B, N, D), in training left out of some samples and larger in the others."""
        if not self.training or not self.drop_path:
            return branch
        keep = 1 - self.drop_path
        draw = torch.rand(len(branch), 1, 1, device=branch.device)  # one per sample
        kept = draw < keep
        return branch * kept / keep  # divided: on average a branch adds what it adds outside of training
