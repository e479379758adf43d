"""Sizes of HyperSIGMA networks: the published ones, and those that a file's shapes tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hvlabel.errors import WeightsError
from hvtrain.backbones.hypersigma.attention import SparseAttention
from hvtrain.backbones.parts.states import depth_of, shape_of
from hvtrain.backbones.parts.transformer import Block

NETWORK = "HyperSIGMA"
EPS = 1e-6  # of norms, as in published vision transformers; torch's own is 1e-5
DROP_PATH = 0.1  # of the last block; it rises from 0
TOKEN_SPREAD = 0.02  # standard deviation of first weights, as published


@dataclass(frozen=True)
class Sizes:
    """Sizes of a transformer, spatial or spectral.

    width, depth, heads : of its blocks
    sparse              : blocks with sparse sampling attention; the others attend to all tokens
    points              : that each token samples there
    taps                : blocks whose tokens are read
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    sparse: tuple[int, ...] = ()
    points: int = 8
    taps: tuple[int, ...] = (3, 5, 7, 11)

    def blocks(self) -> nn.ModuleList:
        """The blocks, each skipped in training a little more often than the one before."""
        blocks = nn.ModuleList()
        for i in range(self.depth):
            sparse = SparseAttention(self.width, self.heads, self.points) if i in self.sparse else None
            skipped = drop_path(i, self.depth)
            block = Block(self.width, self.heads, eps=EPS, attention=sparse, drop_path=skipped)
            blocks.append(block)
        return blocks


@dataclass(frozen=True)
class DecoderSizes:
    """Sizes of an autoencoder's decoder."""

    width: int = 512
    depth: int = 8
    heads: int = 16


def drop_path(block: int, depth: int) -> float:
    """Probability with which a branch of a block is skipped in training."""
    return DROP_PATH * block / max(1, depth - 1)


def sparse_blocks(depth: int, interval: int) -> tuple[int, ...]:
    """All blocks but every interval-th."""
    return tuple(i for i in range(depth) if (i + 1) % interval)


def quarter_taps(depth: int) -> tuple[int, ...]:
    """Four taps of a network that is not published: the last block of each quarter; one may serve twice."""
    lasts = (depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4))
    return tuple(max(0, last) for last in lasts)  # fewer than four blocks have empty quarters


# size -> (width, depth, heads, interval, taps of the spatial one, tap of the spectral one)
_TABLE: dict[str, tuple[int, int, int, int, tuple[int, ...], int]] = {
    "b": (768, 12, 12, 3, (3, 5, 7, 11), 3),
    "l": (1024, 24, 16, 6, (7, 11, 15, 23), 7),
    "h": (1280, 32, 16, 8, (10, 15, 20, 31), 10),
}


def published(size: str, *, spectral: bool = False, sparse: bool = True) -> Sizes:
    """Sizes of B, L or H; sparse: with the attention that is used downstream, not in pre-training."""
    width, depth, heads, interval, taps, spectral_tap = _TABLE[size]
    return Sizes(
        width=width,
        depth=depth,
        heads=heads,
        sparse=sparse_blocks(depth, interval) if sparse else (),
        taps=(spectral_tap,) if spectral else taps,
    )


PUBLISHED = {size: published(size) for size in _TABLE}


def sizes_of(state: Mapping[str, Tensor], config: Mapping[str, Any], source: str, *, taps: str = "taps") -> Sizes:
    """Sizes of a transformer's state dict.

    config : what no shape tells, by the published names, optional: heads or num_heads, taps (an entry of that name)
    """
    width = shape_of(state, "blocks.0.norm1.weight", source, NETWORK)[0]
    depth = depth_of(state, "blocks.")
    published_heads = 12 if width <= 768 else 16
    heads = int(config.get("heads", config.get("num_heads", published_heads)))
    if width % heads:
        raise WeightsError(
            f"{source}: a width of {width} cannot be shared by {heads} heads; say how many heads there are"
        )
    names = [f"blocks.{i}.attn.sampling_offsets.weight" for i in range(depth)]
    sparse = tuple(i for i, name in enumerate(names) if name in state)
    points = Sizes.points
    if sparse:
        n_offsets = len(state[names[sparse[0]]])
        points = n_offsets // (2 * heads)  # x and y of each
    known = {size.width: size.taps for size in PUBLISHED.values() if size.depth == depth}
    own = known.get(width, quarter_taps(depth))
    tapped = config.get(taps, own)
    return Sizes(width, depth, heads, sparse, points, tuple(tapped))


def decoder_sizes_of(state: Mapping[str, Tensor], config: Mapping[str, Any], source: str) -> DecoderSizes:
    """Sizes of an autoencoder's decoder. config: decoder_num_heads, optional."""
    width = shape_of(state, "decoder_embed.weight", source, NETWORK)[0]
    depth = depth_of(state, "decoder_blocks.")
    heads = int(config.get("decoder_num_heads", 16))
    return DecoderSizes(width, depth, heads)


def square_side(n_tokens: int) -> int:
    """Side of a square grid of tokens, rounded down."""
    return math.isqrt(n_tokens)


def first_weights(network: nn.Module) -> None:
    """Draw the published first weights; deeper blocks add less to what they are given."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=TOKEN_SPREAD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, parameter in network.named_parameters():
        if name.endswith("mask_token") or (name.endswith("pos_embed") and parameter.requires_grad):
            nn.init.trunc_normal_(parameter, std=TOKEN_SPREAD)
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, Block):
                depth = int(name.rsplit(".", 1)[1]) + 1  # blocks.0 is the first
                divisor = math.sqrt(2 * depth)  # a block adds two branches
                attention: Any = module.attn
                attention.proj.weight.div_(divisor)
                module.mlp.fc2.weight.div_(divisor)
