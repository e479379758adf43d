"""Sparse sampling attention: each token looks at a few places that it chooses itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.backbones.parts.transformer import Attention, Grid


class SparseAttention(Attention):
    """Attention of each token to points around it; its other weights are those of full attention.

    At first the points lie at the token itself, moved by a fraction of a token.
    """

    def __init__(self, dim: int, heads: int, points: int) -> None:
        super().__init__(dim, heads)
        self.points = points
        self.sampling_offsets = nn.Linear(dim, 2 * heads * points)

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D) of tokens on a grid (rows, columns), row-major; N = rows * columns."""
        assert grid is not None  # tokens of unknown neighbourhood have no places to look at
        q, k, v = self.split(x)  # (B, heads, N, c)
        places = self.places(q, grid).flatten(0, 1)  # (B * heads, N, P, 2)
        keys = sampled(k, places, grid)  # (B, heads, N, P, c)
        values = sampled(v, places, grid)
        products = q.unsqueeze(3) * keys  # (B, heads, N, P, c)
        logits = products.sum(-1) * q.shape[-1] ** -0.5  # (B, heads, N, P)
        # a point outside the grid has logit 0 and value 0: it dilutes, and is not left out
        shares = logits.softmax(dim=-1).unsqueeze(-1)
        mixed = (shares * values).sum(dim=3)  # (B, heads, N, c)
        return self.merged(mixed)

    def places(self, q: Tensor, grid: Grid) -> Tensor:
        """(B, heads, N, P, 2) x and y that queries (B, heads, N, c) look at; -1 and 1 are the grid's borders."""
        batch, heads, n_tokens, _ = q.shape
        # all heads' queries choose together, and before they are scaled
        joined = q.transpose(1, 2).flatten(2)  # (B, N, D)
        chosen = self.sampling_offsets(joined)  # (B, N, 2 * heads * P)
        offsets = chosen.reshape(batch, n_tokens, heads, self.points, 2)
        offsets = offsets.transpose(1, 2)  # (B, heads, N, P, 2), in tokens
        rows, columns = grid
        y, x = _middles(rows, q.device), _middles(columns, q.device)
        x_and_y = torch.meshgrid(x, y, indexing="xy")
        xy = torch.stack(x_and_y, dim=-1)  # (rows, columns, 2) in [0, 1]
        centres = xy.reshape(n_tokens, 1, 2)
        size = torch.tensor([columns, rows], dtype=offsets.dtype, device=q.device)
        return 2 * (centres + offsets / size) - 1


def _middles(n: int, device: torch.device) -> Tensor:
    """(n,) middles of cells that share an axis, in [0, 1]."""
    return (torch.arange(n, device=device) + 0.5) / n


def sampled(values: Tensor, places: Tensor, grid: Grid) -> Tensor:
    """(B, heads, N, P, c): values (B, heads, N, c) on a grid at places (B * heads, N, P, 2), 0 outside of it."""
    batch, heads, _, channels = values.shape
    maps = values.transpose(2, 3).reshape(batch * heads, channels, *grid)
    read = F.grid_sample(maps, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    channels_last = read.permute(0, 2, 3, 1)  # (B * heads, N, P, c)
    return channels_last.unflatten(0, (batch, heads))
