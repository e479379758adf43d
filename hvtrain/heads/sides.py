"""Answers of heads that say at points of a crop how far the sides of the box are, and what such answers should be.

Boxes are (B, 4) centre x, y, width, height, all lengths shares of the crop's side. Points are m along each side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

OBJECT, BACKGROUND, IGNORED = 1, 0, -1  # labels of points
POSITIVE_SHARE, NEGATIVE_SHARE = 0.25, 0.5  # half-axes of ellipses, shares of the box: positive inside, negative beyond
INNER = 0.3  # of the box's width and height: points are positive where they keep this distance from all four sides


@dataclass(frozen=True)
class SideMaps:
    """What a head says of B search crops.

    logits     : (B, 2, m, m) of background and object
    sides      : (B, 4, m, m) from the point to the box's left, top, right and bottom, above 0
    centreness : (B, m, m) logits, 1 in the middle of the box and 0 at its sides; none where a head has no such answer
    step       : between neighbouring points
    """

    logits: Tensor
    sides: Tensor
    centreness: Tensor | None
    step: float

    @property
    def points(self) -> Tensor:
        """(m,) x of the points' columns, and y of their rows."""
        places = points_of(self.logits.shape[-1], self.step)
        return places.to(self.logits)

    @property
    def corners(self) -> Tensor:
        """(B, m, m, 4) x1, y1, x2, y2 of the box at each point."""
        left, top, right, bottom = self.sides.unbind(dim=1)  # (B, m, m) each
        points = self.points
        x, y = points[None, None, :], points[None, :, None]
        corners = [x - left, y - top, x + right, y + bottom]
        return torch.stack(corners, dim=-1)


def points_of(n: int, step: float) -> Tensor:
    """(n,) places along a side of a crop, `step` apart around its middle."""
    from_middle = torch.arange(n) - (n - 1) / 2
    return 0.5 + from_middle * step


def true_sides(boxes: Tensor, points: Tensor) -> Tensor:
    """(B, 4, m, m) from each point to the left, top, right and bottom of a box; below 0 beyond that side."""
    x, y = _from_centre(boxes, points)
    half = boxes[:, 2:, None, None] / 2  # (B, 2, 1, 1)
    half_width, half_height = half.unbind(dim=1)
    left, top = half_width + x, half_height + y
    right, bottom = half_width - x, half_height - y
    return torch.stack([left, top, right, bottom], dim=1)


def _from_centre(boxes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """(B, m, m) each, how far right of a box's centre a point lies, and how far below."""
    n = len(points)
    centre = boxes[:, :2, None, None]  # (B, 2, 1, 1)
    x = points[None, None, :] - centre[:, 0]  # (B, 1, m)
    y = points[None, :, None] - centre[:, 1]  # (B, m, 1)
    return x.expand(-1, n, -1), y.expand(-1, -1, n)


def true_corners(boxes: Tensor, n: int) -> Tensor:
    """(B, n, n, 4) x1, y1, x2, y2 of a box, the same at every point."""
    centre = boxes[:, :2]
    half = boxes[:, 2:] / 2
    corners = torch.cat([centre - half, centre + half], dim=1)  # (B, 4)
    return corners[:, None, None].expand(-1, n, n, -1)


def nearest_point(boxes: Tensor, points: Tensor, step: float) -> Tensor:
    """(B, m, m) bool, the point nearest to a box's centre; none where that lies beyond the cells of all points."""
    axes = []
    for centre in boxes[:, :2].unbind(dim=1):
        apart = (points[None] - centre[:, None]).abs()  # (B, m)
        nearest = apart.argmin(dim=1)  # the first of two that are as near: one point, not two
        is_nearest = F.one_hot(nearest, len(points)).bool()
        axes.append(is_nearest & (apart <= step / 2))
    column, row = axes
    return row[:, :, None] & column[:, None, :]


def ellipse_labels(boxes: Tensor, points: Tensor, step: float) -> Tensor:
    """(B, m, m) int64 labels of points: positive in an ellipse about the centre, negative outside a larger one.

    Source: SiamBAN's rule. A box of less than a cell owns the point nearest to its centre all the same.
    """
    n = len(points)
    labels = torch.full((len(boxes), n, n), IGNORED, device=boxes.device)
    # between the two ellipses a point stays ignored
    labels[~_in_ellipse(boxes, points, NEGATIVE_SHARE)] = BACKGROUND
    labels[_in_ellipse(boxes, points, POSITIVE_SHARE)] = OBJECT
    return _with_one_point(labels, nearest_point(boxes, points, step))


def inner_labels(boxes: Tensor, points: Tensor, step: float) -> Tensor:
    """(B, m, m) int64 labels of points: positive in the inner 40 % of a box in each direction, all else negative.

    Source: SiamCAR's rule. A box of less than a cell owns the point nearest to its centre all the same.
    """
    size = boxes[:, [2, 3, 2, 3], None, None]  # (B, 4, 1, 1) along which each side is measured
    keeps_away = true_sides(boxes, points) > INNER * size
    labels = keeps_away.all(dim=1).long()
    return _with_one_point(labels, nearest_point(boxes, points, step))


def _in_ellipse(boxes: Tensor, points: Tensor, share: float) -> Tensor:
    """(B, m, m) bool, points in an ellipse about each centre whose half-axes are shares of width and height."""
    x, y = _from_centre(boxes, points)
    half_axes = share * boxes[:, 2:, None, None]  # (B, 2, 1, 1)
    across = x / half_axes[:, 0]
    down = y / half_axes[:, 1]
    return across**2 + down**2 <= 1


def _with_one_point(labels: Tensor, nearest: Tensor) -> Tensor:
    """Labels (B, m, m) in which a box without a positive point has its nearest one."""
    is_object = (labels == OBJECT).flatten(1)  # (B, m*m)
    has_none = ~is_object.any(dim=1)
    takes_nearest = nearest & has_none[:, None, None]
    return torch.where(takes_nearest, OBJECT, labels)


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Half the mean over positive points and half that over negative ones; a kind without points adds nothing.

    logits : (B, 2, m, m); labels : (B, m, m)
    """
    total = logits.sum() * 0  # has a gradient even where no point counts
    # the background has some ten times as many points: together they would say that nothing is ever there
    for kind in (OBJECT, BACKGROUND):
        chosen = labels == kind
        if chosen.any():
            of_points = logits.movedim(1, -1)[chosen]  # (n, 2)
            of_kind = F.cross_entropy(of_points, labels[chosen])
            total = total + 0.5 * of_kind
    return total


def shared_and_union(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) areas of x1, y1, x2, y2 (N, 4): what both boxes cover, and what either does."""
    low = torch.maximum(first[:, :2], second[:, :2])
    high = torch.minimum(first[:, 2:], second[:, 2:])
    sides = (high - low).clamp(min=0)  # of boxes that do not meet one is 0
    shared = sides.prod(dim=1)
    return shared, _area(first) + _area(second) - shared


def _area(boxes: Tensor) -> Tensor:
    """(N,) of x1, y1, x2, y2 (N, 4)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return sides.prod(dim=1)
