"""The encoder: generated tokens, positions in metres, a plain vision transformer with a class token."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hvtrain.backbones.parts.positions import grid_code
from hvtrain.backbones.parts.transformer import Block
from hvtrain.backbones.specaware.camera import Camera
from hvtrain.backbones.specaware.embedding import HyperEmbedding
from hvtrain.backbones.specaware.sizes import Sizes

BLOCK_EPS = 1e-6  # the generators' norms have torch's 1e-5
SPREAD = 0.02  # standard deviation of first weights, as published


class SpecAwareEncoder(nn.Module):
    """Cube of any camera to maps of tokens."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.topology = sizes
        self.recompute = False  # in training: blocks keep no activations and compute them again in the backward pass
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.patch_embed = HyperEmbedding(sizes)
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads, eps=BLOCK_EPS) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.width, eps=BLOCK_EPS)

    def tokens(self, cube: Tensor, camera: Camera) -> Tensor:
        """(B, h * w, E) tokens of (B, C, H, W), without positions."""
        tokens, _ = self.patch_embed(cube, camera)
        return tokens

    def taps(self, cube: Tensor, camera: Camera) -> list[Tensor]:
        """(B, E, h, w) maps after the tapped blocks, shallow ones first; only the last block's are normed."""
        tokens = self.tokens(cube, camera)
        grid = self.grid(cube)
        positions = self.positions(camera, len(cube), grid, tokens.shape[-1])
        x = self.with_class_token(tokens + positions.to(tokens))
        last = len(self.blocks) - 1
        maps = []
        for i, block in enumerate(self.blocks):
            x = self.passed(block, x)
            if i in self.topology.taps:
                tapped = self.norm(x) if i == last else x
                patches = tapped[:, 1:]  # without the class token
                maps.append(patches.transpose(1, 2).unflatten(2, grid))
        return maps

    def grid(self, cube: Tensor) -> tuple[int, int]:
        """Rows and columns of tokens of a cube."""
        patch_px = self.topology.patch_px
        return cube.shape[-2] // patch_px, cube.shape[-1] // patch_px

    def positions(self, camera: Camera, batch: int, grid: tuple[int, int], width: int) -> Tensor:
        """(B, h * w, width) float64 code of places in metres; as published, a token's index is taken for pixels."""
        device = self.cls_token.device
        gsd_m = camera.distances_m(batch, device)[:, None]  # (B, 1)
        n_rows, n_columns = grid
        rows_m = torch.arange(n_rows, dtype=torch.float32, device=device) * gsd_m  # (B, h)
        columns_m = torch.arange(n_columns, dtype=torch.float32, device=device) * gsd_m
        return grid_code(rows_m, columns_m, width)

    def with_class_token(self, tokens: Tensor) -> Tensor:
        """(B, 1 + N, E) of (B, N, E); the class token has no position."""
        class_token = self.cls_token.expand(len(tokens), -1, -1)
        return torch.cat([class_token, tokens], dim=1)

    def passed(self, block: nn.Module, x: Tensor) -> Tensor:
        """Tokens after a block; in training with little memory recomputed in the backward pass."""
        if self.recompute and self.training:
            return checkpoint(block, x, use_reentrant=False)
        return block(x)


def first_weights(network: nn.Module) -> None:
    """Draw the published first weights: small linear layers, no biases; what is generated has none either at first."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=SPREAD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if name.endswith("bias_generator.3"):  # its last layer
            nn.init.zeros_(module.weight)
    for name, parameter in network.named_parameters():
        if name in ("cls_token", "mask_token"):
            nn.init.trunc_normal_(parameter, std=SPREAD)
