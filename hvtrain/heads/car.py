"""A Siamese head of classification and regression: levels correlated together, two towers, and how central a point is.

Source: the rules of SiamCAR's paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.heads.correlation import laid_over
from hvtrain.heads.levels import LevelHead
from hvtrain.heads.sides import (
    OBJECT,
    SideMaps,
    balanced_cross_entropy,
    inner_labels,
    shared_and_union,
    true_corners,
    true_sides,
)

WIDTH = 64  # channels; the published head has 256
DEPTH = 4  # convolutions of a tower
GROUPS = 32  # of a norm
FIRST_OBJECT = -math.log(99)  # before it has learnt, one point in a hundred is on the object
FIRST_SIDE = math.log(1 / 8)  # and its box fills a quarter of the crop's side
CROP_PX = 255  # side of the published crops: areas in the overlap's loss are in px of these
BOX_WEIGHT = 3.0  # of the overlap, beside 1 of the scores and of the centreness


class CarHead(LevelHead):
    """The first tower says which points are on the object and how central they are, the second where the sides are.

    ConfigError as Levels.

    widths : channels of each map of the backbone
    grid   : cells along a side of the last one
    """

    def __init__(self, widths: Sequence[int], grid: int, *, width: int = WIDTH) -> None:
        super().__init__(widths, grid, width)
        self.related = nn.Conv2d(len(self.widths) * width, width, 1)
        self.score_tower, self.side_tower = _tower(width), _tower(width)
        self.score = nn.Conv2d(width, 2, 3, padding=1)
        self.centreness = nn.Conv2d(width, 1, 3, padding=1)
        self.side = nn.Conv2d(width, 4, 3, padding=1)
        for part in (self.score_tower, self.side_tower, self.score, self.centreness, self.side):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    _small(module)
        with torch.no_grad():
            assert self.score.bias is not None
            self.score.bias[OBJECT] = FIRST_OBJECT
        nn.init.constant_(self.side.bias, FIRST_SIDE)  # type: ignore[arg-type]

    def forward(self, template: Sequence[Tensor], maps: Sequence[Tensor]) -> SideMaps:
        """Of what `template` gave and the maps of search crops (B, D_i, h, w)."""
        searches = self.levels.search(maps)
        likeness = [laid_over(x, z) for z, x in zip(template, searches, strict=True)]
        related = self.related(torch.cat(likeness, dim=1))  # (B, D, m, m)
        of_scores, of_sides = self.score_tower(related), self.side_tower(related)
        return SideMaps(
            logits=self.score(of_scores),
            sides=self.side(of_sides).exp(),
            centreness=self.centreness(of_scores)[:, 0],
            step=1 / self.grid,
        )


def _tower(width: int) -> nn.Sequential:
    """Convolutions that keep the size, each with group norm and ReLU."""
    layers: list[nn.Module] = []
    for _ in range(DEPTH):
        groups = math.gcd(GROUPS, width)  # a narrow head has fewer channels than the published one has groups
        convolution = nn.Conv2d(width, width, 3, padding=1)
        layers += [convolution, nn.GroupNorm(groups, width), nn.ReLU()]
    return nn.Sequential(*layers)


def _small(layer: nn.Conv2d) -> None:
    """First weights of a layer: a narrow normal distribution, no bias."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def car_losses(maps: SideMaps, boxes: Tensor) -> dict[str, Tensor]:
    """Cross entropy of all points; of the positive ones the overlap by how central they are, and that itself.

    Scalars `score`, `overlap`, `centreness`, and their weighted sum as `loss`.

    boxes : (B, 4) centre x, y, width, height, shares of the crop's side; the centre may lie outside
    """
    labels = inner_labels(boxes, maps.points, maps.step)
    score = balanced_cross_entropy(maps.logits, labels)
    chosen = labels == OBJECT
    if not chosen.any():
        nothing = score * 0
        return {"loss": score, "score": score, "overlap": nothing, "centreness": nothing}
    assert maps.centreness is not None
    target = true_centreness(boxes, maps.points)[chosen]
    predicted_px = maps.corners[chosen] * CROP_PX  # (N, 4) of the N positive points
    corners = true_corners(boxes, labels.shape[-1])
    true_px = corners[chosen] * CROP_PX
    shared, union = shared_and_union(predicted_px, true_px)
    # the 1 keeps the logarithm of boxes that do not meet
    overlaps = (shared + 1) / (union + 1)
    of_boxes = -overlaps.log()
    overlap = (of_boxes * target).sum() / target.sum()
    centreness = F.binary_cross_entropy_with_logits(maps.centreness[chosen], target)
    total = score + BOX_WEIGHT * overlap + centreness
    return {"loss": total, "score": score, "overlap": overlap, "centreness": centreness}


def true_centreness(boxes: Tensor, points: Tensor) -> Tensor:
    """(B, m, m) in [0, 1]: 1 in a box's middle, 0 at its sides; 1 as well where the point lies beyond them.

    The only point that counts and lies beyond is the one that a box of less than a cell owns: it is its middle.
    """
    left, top, right, bottom = true_sides(boxes, points).unbind(dim=1)  # (B, m, m) each
    ratios = []
    for before, after in ((left, right), (top, bottom)):
        near = torch.minimum(before, after)
        far = torch.maximum(before, after)
        ratio = torch.where(near > 0, near / far, 1.0)
        ratios.append(ratio)
    along_x, along_y = ratios
    return (along_x * along_y).sqrt()
