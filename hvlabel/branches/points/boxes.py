"""Boxes of masks: as they are, and between which bounds they will be once low-resolution logits are upsampled."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from hvlabel.branches.points.contract import BoxPx


def outer_boxes(masks: Tensor) -> Tensor:
    """(K, 4) int64 x0, y0, x1, y1 of the outermost foreground px (inclusive); zeros for an empty mask.

    masks : (K, h, w) bool
    """
    if masks.is_cuda:
        x0, x1 = _ends(masks.any(dim=1))
        y0, y1 = _ends(masks.any(dim=2))
        boxes = torch.stack([x0, y0, x1, y1], dim=1)
        return boxes.cpu()
    in_bytes = masks.contiguous().view(torch.uint8)
    # OpenCV stops at the first and the last foreground px of each row
    xywh = [cv2.boundingRect(mask) for mask in in_bytes.numpy()]
    listed = torch.tensor(xywh, dtype=torch.int64)
    boxes = listed.reshape(-1, 4)  # of no masks too
    last_px = boxes[:, :2] + boxes[:, 2:] - 1
    boxes[:, 2:] = last_px.clamp(min=0)  # OpenCV says 0, 0, 0, 0 of an empty mask
    return boxes


def box_bounds(
    logits: Tensor, covered_hw: tuple[float, float], box_xyxy: BoxPx, slack_cells: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Boxes inside and around the foreground that logits will have when upsampled to a crop.

    logits      : (K, h, w), above 0 is foreground
    covered_hw  : rows and columns that the crop takes, the last perhaps in part
    box_xyxy    : the crop's, px of the whole image
    slack_cells : by which an edge may move because the upsampling takes more than one step
    Both (K, 4) float32 x0, y0, x1, y1 px of the whole image, ends inclusive.

    Inner box: between four neighbours above 0 all interpolated values are, so it is around the pixels of all such
    fours. It has no area where there is none, or where a pixel may miss a four.
    Outer box: no pixel is above the interpolated profile of its row's or column's maxima, so it ends where that does.
    """
    x0, y0, x1, y1 = box_xyxy
    rows, columns = covered_hw
    cell_width_px = (x1 - x0) / columns
    cell_height_px = (y1 - y0) / rows
    sides_px = logits.new_tensor([cell_width_px, cell_height_px])
    cell_px = sides_px.repeat(2)  # (4,) one for each edge of a box
    directions = logits.new_tensor([1, 1, -1, -1])  # to the middle, of each edge
    inwards = slack_cells * directions
    outer_cells = _profile_ends(logits) - inwards
    outer = _in_image(outer_cells, cell_px, box_xyxy)
    # of a four that is a px or more, wherever it is moved to, some pixel's centre lies in it
    surely_inside = 1 - 2 * slack_cells  # of a cell, whose both edges may move
    least_side_px = float(cell_px.min()) * surely_inside
    if least_side_px < 1 or min(logits.shape[1:]) < 2:
        return torch.zeros_like(outer), outer
    ends, any_four = _ends_of_fours(logits)
    inner = _in_image(ends + inwards, cell_px, box_xyxy)
    inner[~any_four] = 0.0
    return inner, outer


def least_iou(box: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """(K,) least box IoU of a box (4,) with boxes that hold the inner (K, 4) and lie within the outer ones (K, 4)."""
    least_common = _overlap(inner, box)
    most_beyond = _area(outer) - _overlap(outer, box)  # the largest area that a box can have outside the given one
    largest_union = _area(box) + np.maximum(most_beyond, 0)
    return least_common / np.maximum(largest_union, 1e-6)


def box_iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(K,) of boxes (K, 4) with a box (4,), as torchvision's NMS counts it: widths without the last px.

    It is nan of two empty boxes.
    """
    common = _overlap(boxes, box)
    union = _area(boxes) + _area(box) - common
    with np.errstate(invalid="ignore"):
        return common / union


def _ends(any_px: Tensor) -> tuple[Tensor, Tensor]:
    """(K,) first and last of (K, n) bool that is true; zeros where none is."""
    first = any_px.int().argmax(dim=1)  # argmax gives the first of equal values
    backwards = any_px.flip(1).int()
    from_the_end = backwards.argmax(dim=1)
    last = any_px.shape[1] - 1 - from_the_end
    is_any = any_px.any(dim=1)  # else argmax says 0, which would be the last px
    return first, torch.where(is_any, last, 0)


def _in_image(edges: Tensor, cell_px: Tensor, box_xyxy: BoxPx) -> Tensor:
    """(K, 4) outermost pixels of the image whose centres lie between edges (K, 4) in cells of the crop."""
    x0, y0, x1, y1 = box_xyxy
    first = edges.new_tensor([x0, y0, x0, y0])
    last = edges.new_tensor([x1 - 1, y1 - 1, x1 - 1, y1 - 1])
    px = edges * cell_px - 0.5  # a pixel's centre is half a px from its edge
    # inwards: a pixel whose centre lies beyond the edge is not between them
    begin = px[:, :2].ceil()
    end = px[:, 2:].floor()
    whole = torch.cat([begin, end], dim=1)
    return torch.minimum(whole + first, last)


def _profile_ends(logits: Tensor) -> Tensor:
    """(K, 4) x0, y0, x1, y1: where the foreground of (K, h, w) logits begins and ends, to fractions of a cell."""
    height, width = logits.shape[1:]
    columns = logits.amax(dim=1)  # (K, w) profile along x
    rows = logits.amax(dim=2)  # (K, h) profile along y
    x0, y0 = _rise(columns), _rise(rows)
    x1 = width - _rise(columns.flip(1))
    y1 = height - _rise(rows.flip(1))
    return torch.stack([x0, y0, x1, y1], dim=1)


def _rise(profile: Tensor) -> Tensor:
    """(K,) where profiles (K, n) first rise above 0, in cells from their beginning; a cell's value is at its centre."""
    is_above = (profile > 0).int()  # bool has no argmax
    first = is_above.argmax(dim=1, keepdim=True)  # (K, 1)
    cell_before = (first - 1).clamp(min=0)
    above = profile.gather(1, first)
    before = profile.gather(1, cell_before)
    beyond = above / (above - before)  # of a cell, from the centre of the first that is foreground
    # a profile that begins above 0 stays so to the edge of its first cell
    back = torch.where(first > 0, beyond, 0.5)
    rise = first + 0.5 - back  # (K, 1)
    return rise[:, 0]


def _ends_of_fours(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(K, 4) x0, y0, x1, y1 in cells around all fours of neighbours above 0, from centre to centre.

    Also (K,) bool, whether there are any.
    """
    above = logits > 0
    pairs = above[:, 1:] & above[:, :-1]
    is_four = pairs[:, :, 1:] & pairs[:, :, :-1]
    fours = is_four.to(torch.uint8)  # (K, h - 1, w - 1); bool has no argmax
    ends = logits.new_zeros(len(logits), 4)
    for axis in (0, 1):
        profile = fours.amax(dim=1 + axis)  # in which columns, in which rows
        first = profile.argmax(dim=1)
        from_the_end = profile.flip(1).argmax(dim=1)
        ends[:, axis] = first + 0.5
        ends[:, axis + 2] = profile.shape[1] - from_the_end + 0.5
    largest = fours.flatten(1).amax(dim=1)
    return ends, largest > 0


def _overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(K,) common area of boxes (K, 4) and a box (4,)."""
    low = np.maximum(boxes[..., :2], box[:2])
    high = np.minimum(boxes[..., 2:], box[2:])
    sides = np.clip(high - low, 0, None)  # boxes that lie apart share nothing
    return sides.prod(axis=-1)


def _area(boxes: np.ndarray) -> np.ndarray:
    """(K,) of boxes (K, 4), none below 0."""
    extents = boxes[..., 2:] - boxes[..., :2]
    sides = np.clip(extents, 0, None)
    return sides.prod(axis=-1)
