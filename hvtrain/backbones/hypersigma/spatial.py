"""The spatial transformer: patches as tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hvlabel.errors import ConfigError
from hvtrain.backbones.hypersigma.positions import for_grid
from hvtrain.backbones.hypersigma.pyramid import pyramid
from hvtrain.backbones.hypersigma.sizes import EPS, Sizes
from hvtrain.backbones.parts.transformer import Grid

# of layers that published files hold and no output depends on
UNUSED_INPUTS, UNUSED_PATCH_INPUTS = 49_152, 3_072
UNUSED_SPATIAL = ("classifier.", "classifier1.", "cls.")


class PatchEmbed(nn.Module):
    """A convolution; under `proj`, as published."""

    def __init__(self, n_bands: int, width: int, patch_px: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(n_bands, width, patch_px, stride=patch_px)

    def forward(self, cube: Tensor) -> Tensor:
        """(B, N, D) of (B, C, H, W), row-major; what is beyond whole patches is dropped."""
        maps = self.proj(cube)  # (B, D, h, w)
        return maps.flatten(2).transpose(1, 2)


class SpatVit(nn.Module):
    """Cube of fixed bands to maps of tokens.

    made_for    : grid of its table of positions; other grids interpolate it
    n_bands     : of the cube; none: whoever uses it makes the tokens
    patch_file  : the variant for classes of patches: its pyramid refines, and its maps keep their sizes
    n_classes   : of layers that nothing uses; 0: without them
    """

    def __init__(
        self,
        sizes: Sizes,
        n_bands: int | None,
        made_for: Grid,
        patch_px: int = 8,
        *,
        patch_file: bool = False,
        n_classes: int = 0,
    ) -> None:
        super().__init__()
        width = sizes.width
        self.topology, self.patch_px = sizes, patch_px
        self.made_for, self.patch_file = made_for, patch_file
        self.recompute = False  # in training: blocks keep no activations and compute them again in the backward pass
        rows, columns = made_for
        self.pos_embed = nn.Parameter(torch.zeros(1, rows * columns, width))
        if n_bands is not None:
            self.patch_embed = PatchEmbed(n_bands, width, patch_px)
        self.blocks = sizes.blocks()
        self.norm = nn.LayerNorm(width, eps=EPS)  # in published files; taps are read before it
        self.fpn1, self.fpn2, self.fpn3, self.fpn4 = pyramid(patch_px, width, patch_file=patch_file)
        if n_classes:
            self.classifier = _unused(UNUSED_INPUTS, n_classes)
            if patch_file:
                self.cls = nn.Conv2d(UNUSED_PATCH_INPUTS, n_classes, 1)
                self.classifier1 = _unused(UNUSED_PATCH_INPUTS, n_classes)

    def grid(self, cube: Tensor) -> Grid:
        """Rows and columns of tokens of a cube."""
        height, width = cube.shape[-2:]
        return height // self.patch_px, width // self.patch_px

    def tokens(self, cube: Tensor) -> Tensor:
        """(B, N, D) of (B, C, H, W), with positions: the input of the first block."""
        tokens = self.patch_embed(cube)
        return self.placed(tokens, self.grid(cube))

    def placed(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens (B, N, D) of a grid with their positions."""
        positions = for_grid(self.pos_embed, self.made_for, grid)
        return tokens + positions

    def hidden(self, cube: Tensor) -> list[Tensor]:
        """(B, N, D) after each block."""
        tokens = self.tokens(cube)
        return self.passed(tokens, self.grid(cube))

    def passed(self, tokens: Tensor, grid: Grid) -> list[Tensor]:
        """(B, N, D) after each block, of tokens (B, N, D) with positions."""
        recompute = self.recompute and self.training
        return passed(self.blocks, tokens, grid, recompute=recompute)

    def tap_maps(self, cube: Tensor) -> list[Tensor]:
        """(B, D, h, w) after the tapped blocks, shallow ones first, as they are."""
        hidden = self.hidden(cube)
        return self.tapped(hidden, self.grid(cube))

    def tapped(self, hidden: list[Tensor], grid: Grid) -> list[Tensor]:
        """(B, D, h, w) of the tapped ones of (B, N, D) after each block."""
        return [hidden[i].transpose(1, 2).unflatten(2, grid) for i in self.topology.taps]

    def taps(self, cube: Tensor) -> list[Tensor]:
        """(B, D, h', w') after the tapped blocks, shallow ones first, at the sizes of a pyramid."""
        h, w = self.grid(cube)
        layers = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
        pools_4 = any(isinstance(layer, nn.MaxPool2d) and layer.kernel_size == 4 for layer in layers)
        if min(h, w) < 4 and pools_4:
            raise ConfigError(
                f"{h} x {w} tokens are too few for a pyramid, which pools 4 x 4 of them; give an image of at least "
                f"{4 * self.patch_px} px a side"
            )
        pairs = zip(layers, self.tap_maps(cube), strict=True)
        return [layer(of_tap) for layer, of_tap in pairs]

    def maps(self, cube: Tensor) -> list[Tensor]:
        """The taps, deepest first, each (B, D, H, W); of the variant for patches at their own sizes."""
        deepest_first = self.taps(cube)[::-1]
        if self.patch_file:
            return deepest_first
        size = cube.shape[-2:]
        return [full_size(tap, size) for tap in deepest_first]


def full_size(tap: Tensor, size: Sequence[int]) -> Tensor:
    """(B, D, H, W) of (B, D, h, w), bilinear with the corners kept."""
    return F.interpolate(tap, size=tuple(size), mode="bilinear", align_corners=True)


def passed(blocks: nn.ModuleList, x: Tensor, grid: Grid, *, recompute: bool) -> list[Tensor]:
    """Tokens (B, N, D) after each block."""
    hidden = []
    for block in blocks:
        x = checkpoint(block, x, grid, use_reentrant=False) if recompute else block(x, grid)
        hidden.append(x)
    return hidden


def _unused(n_inputs: int, n_classes: int) -> nn.Sequential:
    """Layers as published files hold them."""
    return nn.Sequential(nn.Linear(n_inputs, 128), nn.Linear(128, 64), nn.Linear(64, n_classes))
