"""A throw-away head: pixel embeddings that are alike inside a mask and unlike outside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.heads.shortcut import features_at

# slope and offset of the cosine, of which a logit is made: 4 where features are alike, -4 where they are unrelated
FIRST_GAIN = (8.0, -4.0)


class LastLevel(nn.Conv2d):
    """(B, E, g, g) of the last of several maps, by a 1 x 1 convolution."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__(width, channels, 1)

    def forward(self, maps: Sequence[Tensor], side: int) -> Tensor:  # type: ignore[override]
        """Maps (B, D, g, g); `side` is not needed, a map stays as large as it is."""
        return super().forward(maps[-1].float())


class AllLevels(nn.ModuleList):
    """(B, E, side, side) float32: each map through its 1 x 1 convolution, enlarged, added."""

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__(nn.Conv2d(width, channels, 1) for width in widths)

    def forward(self, maps: Sequence[Tensor], side: int) -> Tensor:
        """Maps (B, D, h, w), finest first."""
        enlarged = []
        for head, level in zip(self, maps, strict=True):
            embedded = head(level.float())  # (B, E, h, w)
            enlarged.append(F.interpolate(embedded, size=(side, side), mode="bilinear"))
        return torch.stack(enlarged).sum(0)


def first_gain() -> nn.Parameter:
    """Slope and offset (2,) of the cosine, to be learned."""
    return nn.Parameter(torch.tensor(FIRST_GAIN))


def embedding_logits(embedding: Tensor, points_xy: Tensor, gain: Tensor, side: int) -> Tensor:
    """(B * K, 1, side, side) logits: how alike each place and the one under the click are.

    embedding : (B, E, g, g), any length
    points_xy : (B, K, 2) in [0, 1] of the image
    gain      : (2,) slope and offset of the cosine
    """
    unit = F.normalize(embedding, dim=1)  # (B, E, g, g)
    clicked = F.normalize(features_at(unit, points_xy), dim=1)  # (B, E, K)
    cosine = torch.einsum("bek,behw->bkhw", clicked, unit)
    logits = cosine * gain[0] + gain[1]  # (B, K, g, g)
    size = (side, side)
    enlarged = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return enlarged.flatten(0, 1)[:, None]
