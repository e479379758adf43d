"""A Siamese head of three towers: which cell holds the object's centre, where in it, how large the object is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.heads.correlation import correlated, padded

WIDTH = 64  # channels of the relation; a backbone of hundreds of channels and a long training can use 256
# what a head says before it has learnt: few cells hold a centre, it lies in the middle of its cell, and the box fills a
# quarter of the crop's side
FIRST_SCORE, FIRST_OFFSET, FIRST_SIZE = -4.6, 0.5, -1.1  # before the sigmoid, but for the offset
FIRST_GAIN = 4.0  # of the likeness to the template, in the score
LEAST = 1e-4  # of scores and sizes, so that no logarithm is of 0
MIN_OVERLAP = 0.7  # of boxes that still count as near the right one, where the bump ends
NEAR, FAR = 2, 4  # exponents of the focal loss: of a cell's own score, and of how near to the centre it is
BOX_WEIGHT, CORNER_WEIGHT = 2.0, 5.0  # of the overlap and of the corners, beside the scores' 1


@dataclass(frozen=True)
class CentreMaps:
    """What a head says of B search crops of g x g cells.

    score  : (B, g, g) in (0, 1), whether a cell holds the object's centre
    offset : (B, 2, g, g) x, y from the cell's upper left corner, cells
    size   : (B, 2, g, g) width and height in (0, 1), shares of the crop's side
    """

    score: Tensor
    offset: Tensor
    size: Tensor

    def boxes_at(self, cells: Tensor) -> Tensor:
        """(B, 4) centre x, y, width, height, shares of the crop's side, that cells (B,) int64 speak for."""
        grid = self.score.shape[-1]
        column, row = cells % grid, cells // grid
        place = cells[:, None, None].expand(-1, 2, 1)
        offset = self.offset.flatten(2).gather(2, place)[..., 0]  # (B, 2)
        size = self.size.flatten(2).gather(2, place)[..., 0]
        corner = torch.stack([column, row], dim=1)  # (B, 2) x, y, cells
        centre = (corner + offset) / grid
        return torch.cat([centre, size], dim=1)


class CentreHead(nn.Module):
    """The template is laid over the search crop, channel by channel, and three towers read what comes out.

    Both are crops of one scale, the object in the middle of the template's: its inner cells are the kernel, so that
    cells of both mean the same length whatever input a backbone takes.

    widths : channels of each map of the backbone
    grid   : cells along a side of the last one
    """

    def __init__(self, widths: Sequence[int], grid: int, *, width: int = WIDTH) -> None:
        super().__init__()
        self.widths, self.grid = tuple(widths), grid
        self.kernel = max(1, grid // 4)  # the box fills about a quarter of the crop's side
        together = nn.Conv2d(sum(widths), width, 1, bias=False)
        self.adjust = nn.Sequential(together, nn.BatchNorm2d(width))
        self.related = _block(2 * width + 1, width, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        self.gain = nn.Parameter(torch.tensor([FIRST_GAIN]))
        self.score = _tower(width, 1, FIRST_SCORE)
        self.offset = _tower(width, 2, FIRST_OFFSET)
        self.size = _tower(width, 2, FIRST_SIZE)

    def template(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, D, k, k) the inner cells of templates' maps (B, D_i, h, w): made once for a sequence."""
        adjusted = self._adjusted(maps)
        n_around = self.grid - self.kernel
        first = n_around // 2 + n_around % 2
        inner = slice(first, first + self.kernel)
        return adjusted[:, :, inner, inner]

    def forward(self, template: Tensor, maps: Sequence[Tensor]) -> CentreMaps:
        """Of what `template` gave and the maps of search crops (B, D_i, h, w)."""
        search = self._adjusted(maps)  # (B, D, g, g)
        mean = template.mean(dim=(2, 3), keepdim=True)  # (B, D, 1, 1)
        likeness = F.cosine_similarity(search, mean, dim=1)[:, None]  # (B, 1, g, g)
        # over as many cells as the object fills it is highest where they all are the object's
        blurred = F.avg_pool2d(padded(likeness, self.kernel), self.kernel, stride=1)
        beside = [correlated(search, template), search, blurred]
        related = self.related(torch.cat(beside, dim=1))  # (B, D, g, g) of 2 D + 1 channels
        score = self.score(related) + self.gain * blurred
        return CentreMaps(
            score=score[:, 0].sigmoid().clamp(LEAST, 1 - LEAST),
            offset=self.offset(related),
            size=self.size(related).sigmoid().clamp(LEAST, 1 - LEAST),
        )

    def _adjusted(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, D, g, g) of all maps, brought to the cells of the last."""
        size = (self.grid, self.grid)
        beside = [F.interpolate(of_scale.float(), size=size, mode="area") for of_scale in maps]
        return self.adjust(torch.cat(beside, dim=1))


def centre_losses(maps: CentreMaps, boxes: Tensor) -> dict[str, Tensor]:
    """Focal loss of the scores, overlap and corners of the box at the true centre, and their sum as `loss`; scalars.

    boxes : (B, 4) centre x, y, width, height, shares of the crop's side; the centre may lie outside
    """
    grid = maps.score.shape[-1]
    bumps = [bump(box, grid) for box in boxes.tolist()]
    target = torch.stack(bumps).to(maps.score)
    score = _focal(maps.score, target)
    cells, inside = _cells(boxes, grid)
    at_centre = maps.boxes_at(cells)
    predicted = _corners(at_centre)[inside]
    true = _corners(boxes)[inside]
    if len(true) == 0:  # no crop of the batch shows its object's centre
        nothing = score * 0
        return {"loss": score, "score": score, "overlap": nothing, "corners": nothing}
    overlap = (1 - generalised_iou(predicted, true)).mean()
    corners = (predicted - true).abs().mean()
    total = score + BOX_WEIGHT * overlap + CORNER_WEIGHT * corners
    return {"loss": total, "score": score, "overlap": overlap, "corners": corners}


def _focal(p: Tensor, target: Tensor) -> Tensor:
    """Mean over the centres of a batch of -log p, each cell by how wrong it is; cells near a centre count little.

    p, target : (B, g, g), the target 1 at centres
    """
    is_centre = target == 1
    at_centre = (1 - p) ** NEAR * p.log()
    weight = (1 - target) ** FAR * p**NEAR
    elsewhere = weight * (1 - p).log()
    total = torch.where(is_centre, at_centre, elsewhere).sum()
    n_centres = is_centre.sum().clamp(min=1)  # a batch may show none
    return -total / n_centres


def bump(box: Sequence[float], grid: int) -> Tensor:
    """(g, g) a Gaussian around the cell of a box's centre, 1 there; zeros where that lies outside the crop.

    Its width follows from how far corners may move until boxes overlap by less than MIN_OVERLAP.
    """
    x, y, width, height = (share * grid for share in box)
    column, row = math.floor(x), math.floor(y)
    if not (0 <= column < grid and 0 <= row < grid):
        return torch.zeros(grid, grid)
    radius = max(0, int(free_radius(width, height)))
    sigma = (2 * radius + 1) / 6
    cells = torch.arange(grid)
    across, down = cells[None] - column, cells[:, None] - row
    squared = across**2 + down**2  # (g, g)
    inside = squared <= 2 * radius**2  # the circle through the corners of a square of half-side radius
    return torch.exp(-squared / (2 * sigma**2)) * inside


def free_radius(width: float, height: float) -> float:
    """How far both corners may move and the overlap is still MIN_OVERLAP: the least of the three ways they can move.

    Source: CornerNet's rule; each way gives a quadratic equation for the radius.
    """
    total, area = width + height, width * height
    shifted = (1, -total, area * (1 - MIN_OVERLAP) / (1 + MIN_OVERLAP))
    shrunk = (4, -2 * total, (1 - MIN_OVERLAP) * area)
    grown = (4 * MIN_OVERLAP, 2 * MIN_OVERLAP * total, (MIN_OVERLAP - 1) * area)
    # of the first two the smaller root: beyond it boxes no longer overlap enough
    by_shift, by_shrinking = _root(shifted, -1), _root(shrunk, -1)
    by_growing = _root(grown, 1)
    return min(by_shift, by_shrinking, by_growing)


def _root(equation: tuple[float, float, float], sign: int) -> float:
    """The smaller (-1) or larger (1) root of a quadratic equation a, b, c with a above 0."""
    a, b, c = equation
    discriminant = max(b * b - 4 * a * c, 0)  # rounding may take it below 0
    return (-b + sign * math.sqrt(discriminant)) / (2 * a)


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """(N,) overlap less the empty share of the box around both, of x1, y1, x2, y2 (N, 4); in (-1, 1]."""
    low = torch.maximum(first[:, :2], second[:, :2])
    high = torch.minimum(first[:, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    union = _area(first) + _area(second) - shared
    outer_low = torch.minimum(first[:, :2], second[:, :2])
    outer_high = torch.maximum(first[:, 2:], second[:, 2:])
    around = (outer_high - outer_low).prod(dim=1)
    empty_share = (around - union) / around
    return shared / union - empty_share


def _area(boxes: Tensor) -> Tensor:
    """(N,) of x1, y1, x2, y2 (N, 4)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return sides.prod(dim=1)


def _cells(boxes: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """(B,) int64 cell of each box's centre, and whether it lies in the crop (then the cell is the true one)."""
    place = (boxes[:, :2] * grid).floor().long()  # (B, 2); floor: long alone would take -0.5 for cell 0
    is_on_grid = (place >= 0) & (place < grid)
    inside = is_on_grid.all(dim=1)
    column, row = place.clamp(0, grid - 1).unbind(dim=1)
    return row * grid + column, inside


def _corners(boxes: Tensor) -> Tensor:
    """(N, 4) x1, y1, x2, y2 of centre x, y, width, height."""
    centre = boxes[:, :2]
    half = boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], dim=1)


def _block(n_in: int, n_out: int, side: int) -> nn.Sequential:
    """A convolution that keeps the size, batch norm, ReLU."""
    convolution = nn.Conv2d(n_in, n_out, side, padding=side // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.ReLU())


def _tower(width: int, n_out: int, first: float) -> nn.Sequential:
    """From the relation to one answer, which is `first` everywhere before it has learnt."""
    widths = [width, width, width // 2, width // 4, width // 8]
    blocks = [_block(n_before, n_after, 3) for n_before, n_after in pairwise(widths)]
    last = nn.Conv2d(widths[-1], n_out, 1)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, first)  # type: ignore[arg-type]
    return nn.Sequential(*blocks, last)
