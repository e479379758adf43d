"""TinyViT-5M, the image encoder of MobileSAM, with batch norms folded into the convolutions.

Module and parameter names are those of the published checkpoint without its batch norms. Tokens are kept as
(B, H, W, C) all along: a 1x1 convolution is then a matrix product, and the 3x3 ones see the same memory as
channels-last maps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.models.blocks import LayerNorm2d

STRIDE_PX = 16  # of the embedding, px of the input
HEAD_DIM = 32
# channels, blocks and window of the four stages; the first one is convolutions only
DIMS = (64, 128, 160, 320)
DEPTHS = (2, 2, 6, 2)
WINDOWS = (0, 7, 14, 7)
EXPANSION = 4
OUT_DIM = 256
NECK_EPS = 1e-6
# of the widest intermediate result of a strip: what lies in a core's cache is not written to memory and read again
CACHED_BYTES = 2 << 20


def strip_length(n: int, bytes_each: int, device: torch.device) -> int:
    """How many of n rows are worked on at once: on a CPU as many as stay in its cache, else all."""
    if device.type != "cpu":
        return n
    return min(n, max(1, CACHED_BYTES // bytes_each))


class Conv(nn.Module):
    """A convolution with bias whose batch norm was folded in; its parameters are called `c`, as published."""

    def __init__(self, n_in: int, n_out: int, kernel_px: int, *, stride: int = 1, depthwise: bool = False) -> None:
        super().__init__()
        self.pointwise = kernel_px == 1
        groups = n_in if depthwise else 1
        beside_px = kernel_px // 2
        self.c = nn.Conv2d(n_in, n_out, kernel_px, stride=stride, padding=beside_px, groups=groups)

    def forward(self, x: Tensor, *, rows_padded: bool = False) -> Tensor:
        """(B, H, W, C) -> (B, H / stride, W / stride, C').

        rows_padded : the rows beyond the borders are there already
        """
        c = self.c
        if self.pointwise:
            return F.linear(x, c.weight.flatten(1), c.bias)
        beside_px = c.kernel_size[1] // 2
        padding = (0 if rows_padded else beside_px, beside_px)
        planes = x.permute(0, 3, 1, 2)  # (B, C, H, W), a view
        convolved = F.conv2d(planes, c.weight, c.bias, c.stride, padding, groups=c.groups)
        return convolved.permute(0, 2, 3, 1)


class Bottleneck(nn.Module):
    """1x1, depthwise 3x3 and 1x1 convolution with activations between them."""

    def __init__(self, n_in: int, hidden: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = Conv(n_in, hidden, 1)
        self.conv2 = Conv(hidden, hidden, 3, stride=stride, depthwise=True)
        self.conv3 = Conv(hidden, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / stride, W / stride, C'); H is a multiple of the stride."""
        batch, height, width, _ = x.shape
        n_rows = height // self.stride  # of the output
        hidden_row_bytes = batch * width * self.conv1.c.out_channels * x.element_size()
        per_strip = strip_length(n_rows, self.stride * hidden_row_bytes, x.device)
        strips = []
        for first in range(0, n_rows, per_strip):
            last = min(first + per_strip, n_rows)
            # rows of the input that the 3x3 kernel sees, beyond the image at its borders
            above = self.stride * first - 1
            below = self.stride * (last - 1) + 2
            strip = x[:, max(above, 0) : min(below, height)]
            hidden = F.gelu(self.conv1(strip))
            # zeros of hidden channels, as the convolution pads by itself: conv1 would not make zeros of zeros
            missing_above = max(-above, 0)
            missing_below = max(below - height, 0)
            hidden = F.pad(hidden, (0, 0, 0, 0, missing_above, missing_below))
            convolved = self.conv2(hidden, rows_padded=True)
            strips.append(self._finish(convolved, x[:, first:last]))
        return strips[0] if len(strips) == 1 else torch.cat(strips, dim=1)

    def _finish(self, hidden: Tensor, _x: Tensor) -> Tensor:
        """Hidden rows before their activation to the output."""
        return self.conv3(F.gelu(hidden))


class MBConv(Bottleneck):
    """An inverted bottleneck with a residual; the last activation follows the sum."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, EXPANSION * dim, dim)

    def _finish(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The residual is the input's rows, one to one: the stride is 1."""
        return F.gelu(x + super()._finish(hidden, x))


class Downsample(Bottleneck):
    """To the next stage's channels and, but for the last stage, half the grid."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__(n_in, n_out, n_out, stride)


class WindowAttention(nn.Module):
    """Self-attention inside square windows, with a learned bias per head and offset."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.window, self.num_heads = window, dim // HEAD_DIM
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(self.num_heads, window * window))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape.

        The published code fills the grid up with zeros to whole windows before the norm, so padding becomes the norm's
        bias and takes part as keys. Its queries, keys and values are therefore one constant, made once here.
        """
        batch, height, width, dim = x.shape
        w = self.window
        rows, columns = -(-height // w), -(-width // w)
        qkv = self.qkv(self.norm(x))
        if (rows * w, columns * w) != (height, width):
            of_padding = self.qkv(self.norm.bias)  # (3C,)
            whole = of_padding.expand(batch, rows * w, columns * w, -1).contiguous()
            whole[:, :height, :width] = qkv
            qkv = whole
        # the published layout is per head: its queries, its keys, its values
        windows = qkv.view(batch, rows, w, columns, w, self.num_heads, 3, HEAD_DIM)
        apart = windows.permute(6, 0, 1, 3, 5, 2, 4, 7)  # (3, B, rows, columns, heads, w, w, d)
        q, k, v = apart.reshape(3, -1, self.num_heads, w * w, HEAD_DIM)
        attended = self._attend(q, k, v)  # (n, heads, w*w, d)
        values = attended.view(batch, rows, columns, self.num_heads, w, w, HEAD_DIM)
        merged = values.permute(0, 1, 4, 2, 5, 3, 6)  # (B, rows, w, columns, w, heads, d)
        grid = merged.reshape(batch, rows * w, columns * w, dim)
        return self.proj(grid[:, :height, :width])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(n, heads, w*w, d) each -> the same shape."""
        # products by hand: for few tokens twice as fast as PyTorch's attention on CPUs
        scaled = q * HEAD_DIM**-0.5
        scores = scaled @ k.transpose(-1, -2)  # (n, heads, w*w, w*w)
        scores += self.expanded_biases()
        return torch.softmax(scores, dim=-1) @ v

    def expanded_biases(self) -> Tensor:
        """(heads, w*w, w*w): what is added where a token looks at another."""
        index = offset_index(self.window).to(self.attention_biases.device)
        return self.attention_biases[:, index]


def offset_index(window: int) -> Tensor:
    """(w*w, w*w) int64: place in the bias table of the offset between two tokens, |rows| * w + |columns|."""
    token = torch.arange(window * window)
    row = token.div(window, rounding_mode="floor")
    column = token % window
    rows_apart = (row[:, None] - row[None, :]).abs()
    columns_apart = (column[:, None] - column[None, :]).abs()
    return rows_apart * window + columns_apart


class WindowMlp(nn.Module):
    """Norm and two linear layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, EXPANSION * dim)
        self.fc2 = nn.Linear(EXPANSION * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape, the residual included."""
        tokens = x.flatten(0, 2)
        hidden_token_bytes = self.fc1.out_features * x.element_size()
        per_strip = strip_length(len(tokens), hidden_token_bytes, x.device)
        strips = []
        for strip in tokens.split(per_strip):
            hidden = F.gelu(self.fc1(self.norm(strip)))
            strips.append(strip + self.fc2(hidden))
        joined = strips[0] if len(strips) == 1 else torch.cat(strips)
        return joined.view(x.shape)


class WindowBlock(nn.Module):
    """Attention, a depthwise convolution that replaces its input, and an MLP."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.attn = WindowAttention(dim, window)
        self.local_conv = Conv(dim, dim, 3, depthwise=True)
        self.mlp = WindowMlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        attended = x + self.attn(x)
        return self.mlp(self.local_conv(attended))


class EncoderStage(nn.Module):
    """Blocks of one width, then the way to the next."""

    def __init__(self, index: int) -> None:
        super().__init__()
        dim, window = DIMS[index], WINDOWS[index]
        blocks = [WindowBlock(dim, window) if window else MBConv(dim) for _ in range(DEPTHS[index])]
        self.blocks = nn.ModuleList(blocks)
        self.downsample: Downsample | None = None
        if index + 1 < len(DIMS):
            last = index + 2 == len(DIMS)  # the last stage keeps the grid of the one before
            self.downsample = Downsample(dim, DIMS[index + 1], stride=1 if last else 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H', W', C')."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """Two convolutions to a quarter of the input's size."""

    def __init__(self) -> None:
        super().__init__()
        half = DIMS[0] // 2
        to_half = Conv(3, half, 3, stride=2)
        to_quarter = Conv(half, DIMS[0], 3, stride=2)
        self.seq = nn.Sequential(to_half, nn.GELU(), to_quarter)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, 3) -> (B, H/4, W/4, C)."""
        return self.seq(x)


class TinyViT(nn.Module):
    """A normalised picture to SAM's image embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed()
        self.layers = nn.ModuleList(EncoderStage(k) for k in range(len(DIMS)))
        self.neck = nn.Sequential(
            nn.Conv2d(DIMS[-1], OUT_DIM, 1, bias=False),
            LayerNorm2d(OUT_DIM, NECK_EPS),
            nn.Conv2d(OUT_DIM, OUT_DIM, 3, padding=1, bias=False),
            LayerNorm2d(OUT_DIM, NECK_EPS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) float32 -> (B, 256, S/16, S/16); S is a multiple of 16."""
        return self.stages(x)[-1]

    def stages(self, x: Tensor) -> list[Tensor]:
        """(B, C, h, w) maps after the patch embedding, each stage and the neck."""
        x = self.patch_embed(x.permute(0, 2, 3, 1))
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        planes = [m.permute(0, 3, 1, 2) for m in maps]
        return [*planes, self.neck(planes[-1])]
