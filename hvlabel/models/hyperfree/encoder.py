"""The channel-adaptive image encoder. Module and parameter names are the published state dict's."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hvlabel.models.hyperfree.spectral import CUBE_SLOTS_NM, KEY_SLOTS_NM, ChannelChoice

CONTRASTIVE_DIM, CONTRASTIVE_HEADS, CONTRASTIVE_WINDOW_PX = 256, 8, 16  # hard-coded in the published model
MERGE_NORM_EPS = 1e-5
BLOCK_NORM_EPS = 1e-6
INITIAL_SPREAD = 0.02  # of untrained kernels
LONGEST_WAVE = 10_000  # of the position code


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
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


class Mlp(nn.Module):
    """Linear layers with ReLU between them, none at the end."""

    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(dims))

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
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * table_side - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * table_side - 1, dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) -> (B, H, W, D)."""
        batch, height, width, dim = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, H*W, hd)
        bias = self._position_bias(q, height, width)
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(context.transpose(1, 2).reshape(batch, height, width, dim))

    def _position_bias(self, q: Tensor, height: int, width: int) -> Tensor:
        """(B, heads, H*W, H*W) from the queries before they are scaled, as published."""
        grid = q.unflatten(2, (height, width))  # (B, heads, H, W, hd)
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, _relative_table(self.rel_pos_h, height))
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, _relative_table(self.rel_pos_w, width))
        bias = rows[..., :, None] + columns[..., None, :]  # (B, heads, H, W, H, W)
        return bias.flatten(4).flatten(2, 3)


def _relative_table(table: Tensor, side: int) -> Tensor:
    """(side, side, hd): entry [q, k] is the table's row for offset q - k; a table of another length is interpolated."""
    length = 2 * side - 1
    if table.shape[0] != length:
        table = F.interpolate(table.T[None], size=length, mode="linear")[0].T
    offset = torch.arange(side)[:, None] - torch.arange(side)[None, :] + side - 1
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
        x = x + (self._windowed(normed) if self.window_px else self.attn(normed))
        return x + self.mlp(self.norm2(x))

    def _windowed(self, x: Tensor) -> Tensor:
        """(B, H, W, D) after attention inside windows.

        As published, the grid is zero-padded after the norm, and padding takes part unmasked.
        """
        batch, height, width, dim = x.shape
        w = self.window_px
        x = F.pad(x, (0, 0, 0, -width % w, 0, -height % w))
        rows, columns = x.shape[1] // w, x.shape[2] // w
        windows = x.reshape(batch, rows, w, columns, w, dim).transpose(2, 3)  # (B, rows, columns, w, w, D)
        attended = self.attn(windows.reshape(-1, w, w, dim))
        merged = attended.reshape(batch, rows, columns, w, w, dim).transpose(2, 3)
        return merged.reshape(batch, rows * w, columns * w, dim)[:, :height, :width]


class PatchMerging(nn.Module):
    """Halves the grid: 2x2 neighbours concatenated in the order (0,0), (1,0), (0,1), (1,1), normed, projected."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim, eps=MERGE_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) -> (B, H/2, W/2, D); H and W even."""
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, dim=-1)))


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
        self.grid, self.patch_px, self.embed_dim = image_size_px // patch_px, patch_px, embed_dim
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
        maps, n_merged = [], 0
        for i, block in enumerate(self.blocks):
            tokens = checkpoint(block, tokens, use_reentrant=False) if recompute else block(tokens)
            if i in tapped:
                maps.append(tokens.permute(0, 3, 1, 2))
            if self.merge_blocks is not None and i in self.merge_blocks:
                tokens = self.multi_scale_convs[n_merged](tokens)
                n_merged += 1
        return [*maps, self.neck(tokens.permute(0, 3, 1, 2))]

    def tokens(self, x: Tensor, channels: ChannelChoice) -> Tensor:
        """(B, g, g, E) patch embedding by the dictionary kernels of this camera; no normalisation by their number."""
        parts = []
        if channels.key_channels:  # a camera between 960 and 1230 nm has none, where the published code fails
            kernels = self.point_spectral_weight_bank_w[:, list(channels.key_slots)]
            keys = x[:, list(channels.key_channels)]
            parts.append(F.conv2d(keys, kernels, self.point_spectral_weight_bank_b, stride=self.patch_px))
        if channels.cube_channels:
            kernels = self.block_spectral_weight_bank_w[:, list(channels.cube_slots)]
            others = x[:, list(channels.cube_channels)]
            parts.append(F.conv2d(others, kernels, self.block_spectral_weight_bank_b, stride=self.patch_px))
        return sum(parts[1:], parts[0]).permute(0, 2, 3, 1)

    def position_code(self, gsd_m: Tensor) -> Tensor:
        """(B, g, g, E): sines and cosines of column then row in metres, through the MLP."""
        quarter = self.embed_dim // 4
        octave = torch.arange(quarter, dtype=torch.float32, device=gsd_m.device) / quarter
        per_metre = 1.0 / LONGEST_WAVE**octave  # (E/4,) rad
        # as published: a token's index is taken for pixels
        index = torch.arange(self.grid, dtype=torch.float32, device=gsd_m.device)
        metres = index * gsd_m[:, None]  # (B, g)
        angle = metres[..., None] * per_metre  # (B, g, E/4)
        half = torch.cat([angle.sin(), angle.cos()], dim=-1)  # (B, g, E/2)
        columns = half[:, None].expand(-1, self.grid, -1, -1)
        rows = half[:, :, None].expand(-1, -1, self.grid, -1)
        return self.pos_embed_mlp(torch.cat([columns, rows], dim=-1))

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
