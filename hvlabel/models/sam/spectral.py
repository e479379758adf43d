"""An image encoder for cubes of any camera, a few million parameters small, in the place of SAM's own.

A dictionary along the wavelength (HyperFree's idea, but of one pixel and interpolated between its slots) makes the
conditioned spectra of any camera features of each pixel. Convolutions and a ViT make them SAM's embedding. Tokens are
kept as (B, H, W, C): a 1x1 convolution is then a matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.models.blocks import LayerNorm2d
from hvlabel.models.hyperfree.spectral import CUBE_SLOTS_NM
from hvlabel.models.sam.conditioning import present
from hvlabel.models.sam.tiny_vit import OUT_DIM

PIXEL_DIM, STEM_DIM, HEAD_DIM = 64, 96, 32
MIXER_PX, MIXER_EXPANSION, EXPANSION = 5, 3, 4
TOKEN_PX = 4  # pixels along a token, two strides of 2
FIRST_PERIODS_NM = (60.0, 3000.0)  # of the first kernels along the wavelength
FIRST_KERNEL = 1.5  # their amplitude
FIRST_SIZE = 0.1  # of the embedding, about that of SAM's own
SLOT_NM = CUBE_SLOTS_NM[1] - CUBE_SLOTS_NM[0]


@dataclass(frozen=True)
class SpectralTopology:
    """Sizes of an encoder.

    input_px      : side of the padded input, px
    window_px     : side of an attention window, tokens
    global_blocks : those that attend over the whole grid
    """

    input_px: int = 256
    embed_dim: int = 192
    depth: int = 10
    window_px: int = 16
    global_blocks: tuple[int, ...] = (2, 5, 8)

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.input_px // TOKEN_PX


class SpectralEncoder(nn.Module):
    """Conditioned spectra of any camera to SAM's image embedding."""

    def __init__(self, topology: SpectralTopology | None = None) -> None:
        super().__init__()
        self.topology = topology or SpectralTopology()
        width = self.topology.embed_dim
        self.dictionary = Dictionary(PIXEL_DIM)
        self.beside = nn.Linear(2, PIXEL_DIM)  # brightness, and whether there is a pixel at all
        self.stem1 = Halving(PIXEL_DIM, STEM_DIM)
        self.mixers = nn.Sequential(Mixer(STEM_DIM), Mixer(STEM_DIM))
        self.stem2 = Halving(STEM_DIM, width)
        blocks = [TokenBlock(width, self._window_of(k)) for k in range(self.topology.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.neck = nn.Sequential(
            nn.Conv2d(width, OUT_DIM, 1, bias=False),
            LayerNorm2d(OUT_DIM),
            nn.Conv2d(OUT_DIM, OUT_DIM, 3, padding=1, bias=False),
            LayerNorm2d(OUT_DIM),
        )
        nn.init.constant_(self.neck[3].weight, FIRST_SIZE)  # type: ignore[arg-type]

    def forward(self, spectra: Tensor, light: Tensor, valid: Tensor, wavelengths_nm: Tensor) -> Tensor:
        """(B, 256, S/4, S/4) embedding.

        spectra, light : (B, G, S, S) and (B, 1, S, S) as `conditioned` gives them, padded with zeros
        valid          : (B, S, S) bool
        wavelengths_nm : (B, G); of bands without values any
        """
        n_bands = present(spectra).sum(dim=1).clamp(min=1)
        # divided: the mean over a camera's bands, so that one of many bands answers no louder
        kernels = self.dictionary(wavelengths_nm) / n_bands[:, None, None]  # (B, G, E)
        pixels = spectra.permute(0, 2, 3, 1).flatten(1, 2) @ kernels  # (B, S*S, E)
        of_spectra = pixels.unflatten(1, spectra.shape[2:])  # (B, S, S, E)
        is_valid = valid[:, None].to(light.dtype)
        beside = torch.cat([light, is_valid], dim=1)  # (B, 2, S, S)
        x = F.gelu(of_spectra + self.beside(beside.permute(0, 2, 3, 1)))
        x = self.stem1(x)
        x = self.mixers(x)
        x = self.stem2(x)
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))

    def _window_of(self, block: int) -> int:
        return 0 if block in self.topology.global_blocks else self.topology.window_px


class Dictionary(nn.Module):
    """Kernels along the wavelength, at HyperFree's slots every 10 nm and linear between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # smooth from the start: a camera never seen is then read like its neighbours
        shortest, longest = (math.log(period_nm) for period_nm in FIRST_PERIODS_NM)
        log_periods = shortest + (longest - shortest) * torch.rand(dim)  # equal chances for equal ratios
        periods_nm = torch.exp(log_periods)
        phases = 2 * math.pi * torch.rand(dim)
        slots_nm = torch.tensor(CUBE_SLOTS_NM, dtype=torch.float32)
        angle = 2 * math.pi * slots_nm[:, None] / periods_nm + phases
        self.bank = nn.Parameter(FIRST_KERNEL * torch.cos(angle))  # (slots, dim)

    def forward(self, wavelengths_nm: Tensor) -> Tensor:
        """(B, G) nm -> (B, G, dim); beyond the first and the last slot theirs."""
        last = len(CUBE_SLOTS_NM) - 1
        place = (wavelengths_nm - CUBE_SLOTS_NM[0]) / SLOT_NM
        place = place.clamp(0, last)
        below = place.floor().long().clamp(max=last - 1)  # the last slot too has one above it
        share = (place - below)[..., None]  # (B, G, 1)
        lower = self.bank[below] * (1 - share)
        upper = self.bank[below + 1] * share
        return lower + upper


class Halving(nn.Module):
    """A 3x3 convolution to half the grid, normed and activated."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H/2, W/2, C')."""
        return F.gelu(self.norm(_of_planes(self.conv, x)))


class Mixer(nn.Module):
    """A depthwise convolution and a wide pair of linear layers with a residual, as in ConvNeXt; for the finer grid."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = MIXER_EXPANSION * dim
        self.local = nn.Conv2d(dim, dim, MIXER_PX, padding=MIXER_PX // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        hidden = self.lin1(self.norm(_of_planes(self.local, x)))
        return x + self.lin2(F.gelu(hidden))


class TokenBlock(nn.Module):
    """Pre-norm transformer block; a depthwise convolution tells where its tokens are.

    window_px : side of the attention windows, tokens; 0 attends over the whole grid, to means of 2x2 keys and values
    """

    def __init__(self, dim: int, window_px: int) -> None:
        super().__init__()
        hidden = EXPANSION * dim
        self.window_px, self.n_heads = window_px, dim // HEAD_DIM
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) -> the same shape; H and W are multiples of the window, or even."""
        x = x + _of_planes(self.local, x)
        qkv = self.qkv(self.norm1(x))
        attended = self._in_windows(qkv) if self.window_px else self._everywhere(qkv)
        x = x + self.proj(attended)
        hidden = self.lin1(self.norm2(x))
        return x + self.lin2(F.gelu(hidden))

    def _in_windows(self, qkv: Tensor) -> Tensor:
        """(B, H, W, 3D) -> (B, H, W, D)."""
        side = self.window_px
        of_columns = qkv.unflatten(2, (-1, side))  # (B, H, W/w, w, 3D)
        split = of_columns.unflatten(1, (-1, side))  # (B, H/w, w, W/w, w, 3D)
        windows = split.transpose(2, 3)  # (B, H/w, W/w, w, w, 3D)
        tokens = windows.flatten(3, 4).flatten(0, 2)  # (n, w*w, 3D)
        q, k, v = self._heads(tokens).unbind(0)
        context = F.scaled_dot_product_attention(q, k, v)  # (n, heads, w*w, d)
        joined = context.transpose(1, 2).flatten(2)  # (n, w*w, D)
        of_windows = joined.unflatten(1, (side, side))  # (n, w, w, D)
        grid = of_windows.unflatten(0, windows.shape[:3])  # (B, H/w, W/w, w, w, D)
        in_rows = grid.transpose(2, 3)  # (B, H/w, w, W/w, w, D)
        return in_rows.flatten(3, 4).flatten(1, 2)

    def _everywhere(self, qkv: Tensor) -> Tensor:
        """(B, H, W, 3D) -> (B, H, W, D)."""
        every = qkv.flatten(1, 2)  # (B, H*W, 3D)
        q = self._heads(every)[0]
        planes = qkv.permute(0, 3, 1, 2)  # (B, 3D, H, W)
        pooled = F.avg_pool2d(planes, 2).permute(0, 2, 3, 1)  # (B, H/2, W/2, 3D)
        means = pooled.flatten(1, 2)  # (B, H*W/4, 3D); of their queries nothing is read
        _, k, v = self._heads(means).unbind(0)
        context = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H*W, d)
        joined = context.transpose(1, 2).flatten(2)  # (B, H*W, D)
        return joined.unflatten(1, qkv.shape[1:3])

    def _heads(self, qkv: Tensor) -> Tensor:
        """(n, tokens, 3D) -> (3, n, heads, tokens, HEAD_DIM)."""
        split = qkv.unflatten(2, (3, self.n_heads, HEAD_DIM))  # (n, tokens, 3, heads, HEAD_DIM)
        return split.permute(2, 0, 3, 1, 4)


def _of_planes(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of (B, H, W, C)."""
    planes = x.permute(0, 3, 1, 2)  # a view: in memory channels stay last
    return conv(planes).permute(0, 2, 3, 1)
