"""The parts of HyperSL that are like nowhere else. Each oddity is the published network's, which its weights need."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.backbones.parts.transformer import Attention, Block, Mlp

EPS = 1e-5  # not the 1e-6 of other vision transformers
KERNELS = (5, 9, 13)  # bands


def branch(n_in: int, width: int, kernel: int) -> nn.Sequential:
    """A convolution over the bands, batch norm and GELU."""
    convolution = nn.Conv1d(n_in, width, kernel, padding=kernel // 2)
    return nn.Sequential(convolution, nn.BatchNorm1d(width), nn.GELU())


def through(layers: nn.Sequential, x: Tensor, *, frozen: bool) -> Tensor:
    """(N, width, L) of (N, n_in, L). frozen: the batch norm keeps to its statistics, in training too."""
    if not frozen:
        return layers(x)
    convolution, norm, activation = layers
    assert isinstance(norm, nn.BatchNorm1d)
    statistics = norm.running_mean, norm.running_var
    mixed = convolution(x)
    normed = F.batch_norm(mixed, *statistics, norm.weight, norm.bias, training=False, eps=norm.eps)
    return activation(normed)


class LastLayer(nn.Module):
    """The encoder's last layer: what attention gives is added to itself, and not to what it was given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width, Block.MLP_RATIO * width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (N, T, D) of (N, T, D), and the keys and values (N, heads, T, c) that the decoder reads."""
        q, k, v = self.attn.split(self.norm1(x))
        heads = F.scaled_dot_product_attention(q, k, v)
        attended = self.attn.merged(heads)
        y = attended + attended
        return y + self.mlp(self.norm2(y)), k, v


class Spreading(nn.Module):
    """The decoder's first layer: one vector becomes a token per kept band.

    Each band's value is multiplied with the attention that it gets; they are not summed.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, width)  # a query alone
        self.proj = nn.Linear(width, width)

    def forward(self, z: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(N, K, D) of vectors (N, 1, D) and of keys and values (N, heads, K, c) of the kept bands."""
        query = self.qkv(z)  # (N, 1, D)
        by_head = query.unflatten(-1, (self.heads, -1))
        q = by_head.transpose(1, 2)  # (N, heads, 1, c)
        products = q @ k.transpose(2, 3)
        logits = products * q.shape[-1] ** -0.5  # (N, heads, 1, K)
        shares = logits.softmax(dim=-1).transpose(2, 3)  # (N, heads, K, 1)
        weighed = shares * v  # (N, heads, K, c)
        side_by_side = weighed.transpose(1, 2).flatten(2)  # (N, K, D)
        return self.proj(side_by_side)


def first_weights(network: nn.Module) -> None:
    """Draw the published first weights."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.kaiming_uniform_(module.weight)
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        if isinstance(module, nn.Conv1d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for name, parameter in network.named_parameters():
        if name in ("global_token", "mask_token"):
            nn.init.normal_(parameter, std=0.02)


def repeated(positions: Tensor, n_spectra: int) -> Tensor:
    """Codes (1, L, D), or (S, L, D) of S samples whose spectra follow each other, for N spectra."""
    n_samples = len(positions)
    if n_samples in (1, n_spectra):
        return positions
    return torch.repeat_interleave(positions, n_spectra // n_samples, dim=0)
