"""The channel-adaptive image encoder. Module and parameter names are the published state dict's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hvlabel.models.blocks import Block, LayerNorm2d, Mlp
from hvlabel.models.hyperfree.spectral import CUBE_SLOTS_NM, KEY_SLOTS_NM, ChannelChoice

CONTRASTIVE_DIM, CONTRASTIVE_HEADS, CONTRASTIVE_WINDOW_PX = 256, 8, 16  # hard-coded in the published model
MERGE_NORM_EPS = 1e-5
INITIAL_SPREAD = 0.02  # of untrained kernels
LONGEST_WAVE = 10_000  # of the position code


class PatchMerging(nn.Module):
    """Halves the grid: 2x2 neighbours concatenated in the order (0,0), (1,0), (0,1), (1,1), normed, projected."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim, eps=MERGE_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) -> (B, H/2, W/2, D); H and W even."""
        # rows run fastest: the projection's weights are of this order
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        together = torch.cat(parts, dim=-1)  # (B, H/2, W/2, 4D)
        return self.reduction(self.norm(together))


class ImageEncoder(nn.Module):
    """Cube of any camera to multi-scale feature maps."""

    def __init__(
        self,
        *,
        image_size_px: int,
        patch_px: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: int,
        window_px: int,
        global_blocks: tuple[int, ...],
        merge_blocks: tuple[int, ...] | None,
        out_dim: int,
    ) -> None:
        super().__init__()
        self.grid = image_size_px // patch_px
        self.patch_px = patch_px
        self.embed_dim = embed_dim
        self.global_blocks, self.merge_blocks = global_blocks, merge_blocks
        self.recompute = False  # in training: blocks keep no activations and compute them again in the backward pass
        # the dictionary: one kernel per slot, of which a camera's bands choose theirs
        key_kernels = torch.randn(embed_dim, len(KEY_SLOTS_NM), patch_px, patch_px)
        self.point_spectral_weight_bank_w = nn.Parameter(key_kernels * INITIAL_SPREAD)
        self.point_spectral_weight_bank_b = nn.Parameter(torch.zeros(embed_dim))
        cube_kernels = torch.randn(embed_dim, len(CUBE_SLOTS_NM), patch_px, patch_px)
        self.block_spectral_weight_bank_w = nn.Parameter(cube_kernels * INITIAL_SPREAD)
        self.block_spectral_weight_bank_b = nn.Parameter(torch.zeros(embed_dim))
        self.pos_embed_mlp = Mlp([embed_dim, embed_dim // 2, embed_dim // 2, embed_dim])
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio * embed_dim,
                window_px=0 if i in global_blocks else window_px,
                table_side=self.grid if i in global_blocks else window_px,
            )
            for i in range(depth)
        )
        if merge_blocks is not None:
            self.multi_scale_convs = nn.ModuleList(PatchMerging(embed_dim) for _ in merge_blocks)
        # leftover of contrastive pre-training: in every published state dict, not part of the encoder's output
        self.contras_modules = nn.ModuleList(
            Block(CONTRASTIVE_DIM, CONTRASTIVE_HEADS, 4 * CONTRASTIVE_DIM, CONTRASTIVE_WINDOW_PX, CONTRASTIVE_WINDOW_PX)
            for _ in range(2)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dim, out_dim, 1, bias=False),
            LayerNorm2d(out_dim),
            nn.Conv2d(out_dim, out_dim, 3, padding=1, bias=False),
            LayerNorm2d(out_dim),
        )

    def forward(self, x: Tensor, channels: ChannelChoice, gsd_m: Tensor) -> list[Tensor]:
        """Multi-scale maps, finest first; the last one is the neck's (B, out_dim, h, w).

        x     : (B, C, S, S) float32, S = image size
        gsd_m : (B,) ground sampling distance of a pixel of x, m
        Without merging one (B, E, g, g) map per global block precedes the neck; with merging the maps after the first
        merge block (before its merge) and after the first and third global block do, as published.
        """
        tokens = self.tokens(x, channels) + self.position_code(gsd_m)  # (B, g, g, E)
        recompute = self.recompute and self.training
        tapped = self._tapped_blocks()
        maps = []
        n_merged = 0
        for i, block in enumerate(self.blocks):
            tokens = checkpoint(block, tokens, use_reentrant=False) if recompute else block(tokens)
            if i in tapped:
                maps.append(tokens.permute(0, 3, 1, 2))
            if self.merge_blocks is not None and i in self.merge_blocks:
                tokens = self.multi_scale_convs[n_merged](tokens)
                n_merged += 1
        last = tokens.permute(0, 3, 1, 2)  # (B, E, h, w)
        return [*maps, self.neck(last)]

    def tokens(self, x: Tensor, channels: ChannelChoice) -> Tensor:
        """(B, g, g, E) patch embedding by the dictionary kernels of this camera; no normalisation by their number."""
        parts = []  # (B, E, g, g) each
        if channels.key_channels:  # a camera between 960 and 1230 nm has none, where the published code fails
            kernels = self.point_spectral_weight_bank_w[:, list(channels.key_slots)]
            of_keys = x[:, list(channels.key_channels)]
            bias = self.point_spectral_weight_bank_b
            parts.append(F.conv2d(of_keys, kernels, bias, stride=self.patch_px))
        if channels.cube_channels:
            kernels = self.block_spectral_weight_bank_w[:, list(channels.cube_slots)]
            of_cube = x[:, list(channels.cube_channels)]
            bias = self.block_spectral_weight_bank_b
            parts.append(F.conv2d(of_cube, kernels, bias, stride=self.patch_px))
        tokens = sum(parts[1:], parts[0])
        return tokens.permute(0, 2, 3, 1)

    def position_code(self, gsd_m: Tensor) -> Tensor:
        """(B, g, g, E): sines and cosines of column then row in metres, through the MLP."""
        quarter = self.embed_dim // 4  # of the channels: sines and cosines of columns, and of rows
        device = gsd_m.device
        wave = torch.arange(quarter, dtype=torch.float32, device=device)
        share = wave / quarter
        per_metre = 1.0 / LONGEST_WAVE**share  # (E/4,) rad
        # as published: a token's index is taken for pixels
        index = torch.arange(self.grid, dtype=torch.float32, device=device)
        metres = index * gsd_m[:, None]  # (B, g)
        angle = metres[..., None] * per_metre  # (B, g, E/4)
        half = torch.cat([angle.sin(), angle.cos()], dim=-1)  # (B, g, E/2)
        # one code for both axes: the grid is square
        columns = half[:, None].expand(-1, self.grid, -1, -1)
        rows = half[:, :, None].expand(-1, -1, self.grid, -1)
        code = torch.cat([columns, rows], dim=-1)  # (B, g, g, E)
        return self.pos_embed_mlp(code)

    def _tapped_blocks(self) -> tuple[int, ...]:
        """After which blocks the map is kept."""
        if self.merge_blocks is None:
            return self.global_blocks
        return self.merge_blocks[0], self.global_blocks[0], self.global_blocks[2]

    def semantic_feature(self, neck: Tensor) -> Tensor:
        """(B, 256, h, w) neck map through the two contrastive blocks (published helper convert_semantic_feature)."""
        x = neck.permute(0, 2, 3, 1)
        for block in self.contras_modules:
            x = block(x)
        return x.permute(0, 3, 1, 2)
