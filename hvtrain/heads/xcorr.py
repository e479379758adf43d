"""A Siamese head of depth-wise correlations, level by level: which points are on the object, and where its sides are.

Source: SiamBAN (hqucv/siamban, Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hvtrain.heads.correlation import laid_over
from hvtrain.heads.levels import LevelHead
from hvtrain.heads.sides import (
    BACKGROUND,
    IGNORED,
    OBJECT,
    SideMaps,
    balanced_cross_entropy,
    ellipse_labels,
    shared_and_union,
    true_corners,
)

WIDTH = 64  # channels of a level; the published head has 256
# before it has learnt, a box fills a quarter of the crop's side: each of its sides is an eighth away
FIRST_SIDE = math.log(1 / 8)
MOST_POSITIVE, MOST_NEGATIVE = 16, 48  # points of a pair that count; of one without the object 16 negative ones
MOST_OF_NOTHING = 16


class _Branch(nn.Module):
    """One answer of one level: both crops through a layer of their own, correlated, read out per point."""

    def __init__(self, width: int, n_out: int) -> None:
        super().__init__()
        self.of_template, self.of_search = _unpadded(width), _unpadded(width)
        mixing = nn.Conv2d(width, width, 1, bias=False)
        self.mixed = nn.Sequential(mixing, nn.BatchNorm2d(width), nn.ReLU())
        self.out = nn.Conv2d(width, n_out, 1)

    def begin_with(self, answer: float) -> None:
        """First weights that give about the same answer everywhere."""
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.constant_(self.out.bias, answer)  # type: ignore[arg-type]

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        """(B, K, m, m) of a template (B, D, k, k) and a search map (B, D, g, g)."""
        likeness = laid_over(self.of_search(search), self.of_template(template))
        return self.out(self.mixed(likeness))


class XCorrHead(LevelHead):
    """Every level answers by itself; learnt weights mix the levels.

    ConfigError as Levels.

    widths : channels of each map of the backbone
    grid   : cells along a side of the last one
    """

    def __init__(self, widths: Sequence[int], grid: int, *, width: int = WIDTH) -> None:
        super().__init__(widths, grid, width)
        n = len(self.widths)
        self.score = nn.ModuleList(_Branch(width, 2) for _ in range(n))
        self.side = nn.ModuleList(_Branch(width, 4) for _ in range(n))
        for branch in self.side:
            assert isinstance(branch, _Branch)
            branch.begin_with(FIRST_SIDE)
        self.scale = nn.Parameter(torch.ones(n))  # of the sides' logarithms, per level
        self.score_mix = nn.Parameter(torch.zeros(n))  # before a softmax: at first all levels count alike
        self.side_mix = nn.Parameter(torch.zeros(n))

    def forward(self, template: Sequence[Tensor], maps: Sequence[Tensor]) -> SideMaps:
        """Of what `template` gave and the maps of search crops (B, D_i, h, w)."""
        searches = self.levels.search(maps)
        logits, sides = [], []
        for k, (z, x) in enumerate(zip(template, searches, strict=True)):
            logits.append(self.score[k](z, x))
            logarithm = self.scale[k] * self.side[k](z, x)
            sides.append(logarithm.exp())  # above 0, whatever is learnt
        return SideMaps(
            logits=_mixed(logits, self.score_mix),
            sides=_mixed(sides, self.side_mix),
            centreness=None,
            step=1 / self.grid,
        )


def _unpadded(width: int) -> nn.Sequential:
    """A convolution that loses the outermost cells, which would see zeros; batch norm, ReLU."""
    convolution = nn.Conv2d(width, width, 3, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


def _mixed(levels: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Mean of the levels' answers by weights (L,) that add up to 1."""
    together = torch.stack(list(levels))  # (L, B, K, m, m)
    shares = weights.softmax(dim=0)
    return torch.einsum("l...,l->...", together, shares)


def xcorr_losses(maps: SideMaps, boxes: Tensor, is_same: Tensor) -> dict[str, Tensor]:
    """Cross entropy of some points and 1 - IoU of the positive ones, and their sum as `loss`; scalars.

    boxes   : (B, 4) centre x, y, width, height, shares of the crop's side; the centre may lie outside
    is_same : (B,) bool, whether the template shows the object of the search crop
    Points are drawn from torch's generator.
    """
    labels = ellipse_labels(boxes, maps.points, maps.step)
    # the object of another template is where a look-alike would be: those points say nothing is there, others nothing
    of_others = torch.where(labels == OBJECT, BACKGROUND, IGNORED)
    labels = torch.where(is_same[:, None, None], labels, of_others)
    most_negative = torch.where(is_same, MOST_NEGATIVE, MOST_OF_NOTHING)
    most_positive = torch.full_like(most_negative, MOST_POSITIVE)
    positive = some_of(labels == OBJECT, most_positive)
    negative = some_of(labels == BACKGROUND, most_negative)
    kept = positive | negative
    labels = torch.where(kept, labels, IGNORED)
    score = balanced_cross_entropy(maps.logits, labels)
    chosen = labels == OBJECT
    overlap = score * 0
    if chosen.any():
        corners = true_corners(boxes, labels.shape[-1])
        shared, union = shared_and_union(maps.corners[chosen], corners[chosen])
        overlap = (1 - shared / union).mean()
    return {"loss": score + overlap, "score": score, "overlap": overlap}


def some_of(chosen: Tensor, most: Tensor) -> Tensor:
    """(B, m, m) bool, at most `most` (B,) of the chosen points of each crop, drawn from torch's generator."""
    drawn = torch.rand(chosen.shape, device=chosen.device).flatten(1)  # (B, m*m) in [0, 1)
    drawn = drawn.masked_fill(~chosen.flatten(1), 2.0)  # behind all that are chosen
    rank = drawn.argsort(dim=1).argsort(dim=1)  # the place of each in the order of its crop
    is_early = rank < most[:, None]
    return is_early.reshape(chosen.shape) & chosen
