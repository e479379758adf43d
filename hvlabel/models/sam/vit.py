"""SAM's own image encoder (ViT-B, L, H): the blocks that HyperFree took over, behind a plain RGB patch embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hvlabel.models.blocks import Block, LayerNorm2d

MLP_RATIO = 4
OUT_DIM = 256


class PatchProjection(nn.Module):
    """Non-overlapping patches to tokens; called `patch_embed.proj` in the published files."""

    def __init__(self, embed_dim: int, patch_px: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, patch_px, stride=patch_px)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, g, g, E)."""
        return self.proj(x).permute(0, 2, 3, 1)


class VisionTransformer(nn.Module):
    """A normalised picture to SAM's image embedding.

    grid          : tokens along a side, S / patch_px
    global_blocks : those that attend over the whole grid
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_heads: int,
        grid: int,
        patch_px: int,
        window_px: int,
        global_blocks: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.patch_embed = PatchProjection(embed_dim, patch_px)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, embed_dim))  # learned, for this grid only
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                MLP_RATIO * embed_dim,
                window_px=0 if k in global_blocks else window_px,
                table_side=grid if k in global_blocks else window_px,
            )
            for k in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dim, OUT_DIM, 1, bias=False),
            LayerNorm2d(OUT_DIM),
            nn.Conv2d(OUT_DIM, OUT_DIM, 3, padding=1, bias=False),
            LayerNorm2d(OUT_DIM),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) float32 -> (B, 256, g, g)."""
        tokens = self.patch_embed(x) + self.pos_embed  # (B, g, g, E)
        for block in self.blocks:
            tokens = block(tokens)
        return self.neck(tokens.permute(0, 3, 1, 2))
