"""The spectral transformer: groups of neighbouring bands as tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.errors import ConfigError
from hvtrain.backbones.hypersigma.sizes import EPS, Sizes, square_side
from hvtrain.backbones.hypersigma.spatial import passed
from hvtrain.backbones.parts.transformer import Grid

TOKENS = 100  # of all published networks
SUMMARY = 128  # channels that the first tap is projected to
UNUSED_SPECTRAL = ("conv_q.", "conv_k.", "conv_v.")


class BandGroups(nn.Module):
    """Bands pooled to tokens, each a picture that one linear layer reads; a mixin of transformer and autoencoder."""

    spat_map: nn.Linear
    n_tokens: int

    def pooled(self, cube: Tensor) -> Tensor:
        """(B, H * W, T) of (B, C, H, W): means over neighbouring bands; of fewer than T bands some are repeated."""
        spectra = cube.flatten(2).transpose(1, 2)  # (B, H * W, C)
        return F.adaptive_avg_pool1d(spectra, self.n_tokens)

    def mapped(self, cube: Tensor) -> Tensor:
        """(B, T, D) of (B, C, H, W); ConfigError for an image that is not as large as the network was made for."""
        height_px, width_px = cube.shape[-2:]
        if height_px * width_px != self.spat_map.in_features:
            side = square_side(self.spat_map.in_features)
            raise ConfigError(
                f"an image of {height_px} x {width_px} px; the spectral transformer reads {side} x {side} px: "
                "resize it or cut it"
            )
        of_tokens = self.pooled(cube).transpose(1, 2)  # (B, T, H * W): a picture for each token
        return self.spat_map(of_tokens)


class SpecVit(BandGroups):
    """Cube of any number of bands to tokens of band groups.

    side_px : of the square image that it is made for
    unused  : with the layers that published files hold and nothing uses
    """

    def __init__(self, sizes: Sizes, side_px: int, n_tokens: int = TOKENS, *, unused: bool = False) -> None:
        super().__init__()
        width = sizes.width
        self.topology, self.n_tokens, self.side_px = sizes, n_tokens, side_px
        self.recompute = False
        self.pos_embed = nn.Parameter(torch.zeros(1, n_tokens, width))
        self.spat_map = nn.Linear(side_px**2, width)
        self.blocks = sizes.blocks()
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.l1 = nn.Linear(width, SUMMARY, bias=False)
        if unused:
            self.conv_q = nn.ModuleList(nn.Conv2d(n_tokens, n_tokens, 1) for _ in sizes.taps)
            self.conv_k = nn.ModuleList(nn.Conv1d(n_tokens, n_tokens, 1) for _ in sizes.taps)
            self.conv_v = nn.ModuleList(nn.Conv1d(n_tokens, n_tokens, 1) for _ in sizes.taps)

    def grid(self) -> Grid:
        """The square that sparse attention takes the tokens for: it has no physical meaning."""
        side = square_side(self.n_tokens)
        if side**2 != self.n_tokens and self.topology.sparse:
            raise ConfigError(
                f"{self.n_tokens} spectral tokens are no square, which sparse attention lays them out on; choose 100, "
                "or full attention"
            )
        return side, side

    def tokens(self, cube: Tensor) -> Tensor:
        """(B, T, D) of (B, C, S, S), with positions: the input of the first block."""
        return self.mapped(cube) + self.pos_embed

    def hidden(self, cube: Tensor) -> list[Tensor]:
        """(B, T, D) after each block."""
        tokens = self.tokens(cube)
        recompute = self.recompute and self.training
        return passed(self.blocks, tokens, self.grid(), recompute=recompute)

    def taps(self, cube: Tensor) -> list[Tensor]:
        """After the tapped blocks: the first one projected, (B, T, 128), the others raw, (B, T, D)."""
        hidden = self.hidden(cube)
        first, *others = (hidden[i] for i in self.topology.taps)
        return [self.l1(first), *others]
