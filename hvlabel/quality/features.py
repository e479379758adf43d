"""Plain numbers about a mask that tell good ones from bad.

They are its shape, its contrast to what surrounds it, agreement, nesting, and the network's own word.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from hvlabel.masks import Mask, areas, boxes_xyxy, decode, iou_matrix
from hvlabel.quality.view import View

MOST_SIDE_PX = 64  # of the piece of image that a mask is judged on; larger ones are thinned out
RING_SHARE, RING_PX = 0.15, (2, 12)  # width of the ring around a mask: share of its size, and bounds
SPECTRA = 48  # of each, inside and in the ring, whose angle is taken
INSIDE = 0.9  # share of a mask that lies in another one which contains it
LARGER = 1.2  # times a mask's area, from which another one is more than the same mask again
MET_IOU = 0.7

SHAPE = ("log_area", "fill", "aspect", "border", "compactness", "solidity", "holes", "pieces")
SIGHT = ("spread", "ring_spread", "contrast", "own", "foreign", "edge")
NAMES = (
    *SHAPE,
    *(f"spectral_{name}" for name in SIGHT),
    *(f"picture_{name}" for name in SIGHT),
    "spectral_angle",
    "predicted_iou",
    "stability",
    "score",
    "confirmed",
    "agreement_mean",
    "agreement_least",
    "agreement_most",
    "met",
    "same_branch",
    "parents",
    "parent_area",
    "children",
    "child_area",
    "children_cover",
)


def mask_features(masks: Sequence[Mask], view: View) -> np.ndarray:
    """(N, len(NAMES)) float32 features of all candidate masks of one image; each is also compared with the others.

    masks : of all branches, before any of them is suppressed
    """
    if not masks:
        return np.zeros((0, len(NAMES)), np.float32)
    rles = [m.rle for m in masks]
    area_px = areas(rles).astype(float)  # (N,)
    boxes = boxes_xyxy(rles).astype(int)  # (N, 4)
    overlap = iou_matrix(rles, rles)  # (N, N)
    sight = np.stack([_look(mask, box, view) for mask, box in zip(masks, boxes, strict=True)])
    of_network = np.array([[m.predicted_iou, m.stability_score, m.score, _confirmed(m)] for m in masks], np.float32)
    groups = [sight, of_network, _agreement(overlap, masks), _nesting(overlap, area_px)]  # in the order of NAMES
    return np.concatenate(groups, axis=1, dtype=np.float32)


def _confirmed(mask: Mask) -> float:
    """On how many pictures or frames a mask was met, at least its own."""
    n_linked = len(mask.extra.get("linked_frames", ()))
    return float(mask.extra.get("confirmed", n_linked or 1))


def _look(mask: Mask, box_xyxy: np.ndarray, view: View) -> np.ndarray:
    """Shape, sight of components and picture, and spectral angle of one mask, judged on a piece around it."""
    whole = decode(mask.rle)  # (H, W)
    x0, y0, x1, y1 = (int(v) for v in box_xyxy)
    n_px = float(np.count_nonzero(whole[y0:y1, x0:x1]))
    size_px = max(1.0, n_px) ** 0.5
    ring_px = int(np.clip(round(RING_SHARE * size_px), *RING_PX))
    piece, step = _piece(whole, (x0 - ring_px, y0 - ring_px, x1 + ring_px, y1 + ring_px))
    inside = np.ascontiguousarray(whole[piece])  # (h, w)
    outline, ring = _edge_and_ring(inside, max(1, ring_px // step))
    sound = inside
    if view.valid is not None:
        ring &= view.valid[piece]
        sound = inside & view.valid[piece]
    spectral = _sight(view.components[piece], view.component_edges[piece], sound, ring, outline)
    picture = _sight(view.picture[piece], view.picture_edges[piece], sound, ring, outline)
    angle = _angle(view.values, piece, sound, ring)
    shape = _shape(inside, whole, (x0, y0, x1, y1))
    return np.array([*shape, *spectral, *picture, angle], np.float32)


def _piece(whole: np.ndarray, around_xyxy: tuple[int, int, int, int]) -> tuple[tuple[slice, slice], int]:
    """Rows and columns of the image that a mask is judged on, and every how many px.

    whole       : (H, W) bool
    around_xyxy : its box and the ring around it, px; may reach beyond the image
    """
    height, width = whole.shape
    left, top = max(0, around_xyxy[0]), max(0, around_xyxy[1])
    right, bottom = min(width, around_xyxy[2]), min(height, around_xyxy[3])
    longest_px = max(bottom - top, right - left)
    step = max(1, -(-longest_px // MOST_SIDE_PX))  # rounded up
    piece = np.s_[top:bottom:step, left:right:step]
    if not whole[piece].any():  # thinned out of sight
        return np.s_[top:bottom, left:right], 1
    return piece, step


def _edge_and_ring(inside: np.ndarray, reach_px: int) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) bool pixels along a mask's outline, and those around it up to a distance."""
    in_bytes = inside.view(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach_px + 1, 2 * reach_px + 1))
    grown = cv2.dilate(in_bytes, disc).view(bool)
    shrunk = cv2.erode(in_bytes, np.ones((3, 3), np.uint8)).view(bool)
    return inside & ~shrunk, grown & ~inside


def _shape(inside: np.ndarray, whole: np.ndarray, box_xyxy: tuple[int, int, int, int]) -> list[float]:
    """SHAPE. inside: the mask on its thinned piece; whole: (H, W) bool."""
    x0, y0, x1, y1 = box_xyxy
    area_px = int(np.count_nonzero(whole[y0:y1, x0:x1]))
    rows, columns = y1 - y0, x1 - x0
    border = np.concatenate([whole[0], whole[-1], whole[1:-1, 0], whole[1:-1, -1]])
    pieces, _ = cv2.findContours(inside.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(inside.shape, np.uint8), pieces, -1, 1, cv2.FILLED)
    n_inside = int(np.count_nonzero(inside))
    n_filled = max(1, int(np.count_nonzero(filled)))  # with its holes
    perimeter = sum(cv2.arcLength(c, closed=True) for c in pieces)
    hull = cv2.contourArea(cv2.convexHull(np.concatenate(pieces)))
    piece_areas = [cv2.contourArea(c) for c in pieces]
    return [
        np.log(max(area_px, 1) / whole.size),
        area_px / max(rows * columns, 1),
        abs(np.log(max(rows, 1) / max(columns, 1))),
        float(border.mean()),
        4 * np.pi * n_filled / max(perimeter, 1.0) ** 2,
        min(1.0, n_filled / max(hull, 1.0)),
        1 - n_inside / n_filled,
        max(piece_areas) / max(sum(piece_areas), 1.0),
    ]


def _sight(
    image: np.ndarray, edges: np.ndarray, inside: np.ndarray, ring: np.ndarray, outline: np.ndarray
) -> list[float]:
    """SIGHT of a mask on an (h, w, D) image.

    spread, ring_spread : log of the mean deviation inside and in the ring
    contrast            : log of the distance between both means, in deviations inside
    own                 : share of pixels inside that are nearer to their own mean
    foreign             : share of pixels of the ring that are nearer to the mask's mean
    edge                : log of the gradient along the outline over that inside
    """
    mine, theirs = image[inside], image[ring]  # (n, D), (m, D)
    if not len(mine) or not len(theirs):
        return [0.0] * len(SIGHT)
    centre, outer = np.median(mine, axis=0), np.median(theirs, axis=0)
    spread = float(np.abs(mine - centre).mean()) + 1e-6
    ring_spread = float(np.abs(theirs - outer).mean()) + 1e-6
    gap = float(np.linalg.norm(centre - outer))
    # a pixel is nearer to the mask's mean than to the ring's on one side of the plane half way between them
    towards, middle = centre - outer, (centre + outer) / 2
    own = (mine - middle) @ towards > 0
    foreign = (theirs - middle) @ towards > 0
    interior = inside & ~outline
    calm = float(edges[interior].mean()) if interior.any() else float(edges[inside].mean())
    edge = float(edges[outline].mean()) if outline.any() else calm
    return [
        np.log(spread),
        np.log(ring_spread),
        np.log(gap / spread + 1e-3),
        float(own.mean()),
        float(foreign.mean()),
        np.log((edge + 1e-6) / (calm + 1e-6)),
    ]


def _angle(values: np.ndarray, piece: tuple[slice, slice], inside: np.ndarray, ring: np.ndarray) -> float:
    """Angle between the mean spectra of some pixels inside and in the ring, radians."""
    if not inside.any() or not ring.any():
        return 0.0
    mine, theirs = (_mean_spectrum(values, piece, marked) for marked in (inside, ring))
    lengths = np.linalg.norm(mine) * np.linalg.norm(theirs)
    cosine = mine @ theirs / max(lengths, 1e-300)
    return float(np.arccos(np.clip(cosine, -1, 1)))


def _mean_spectrum(values: np.ndarray, piece: tuple[slice, slice], marked: np.ndarray) -> np.ndarray:
    """(C,) float64 mean of at most SPECTRA spectra, evenly spread over the marked pixels of a piece."""
    y, x = np.nonzero(marked)
    some = np.linspace(0, len(y) - 1, min(SPECTRA, len(y))).astype(int)
    rows = y[some] * (piece[0].step or 1) + piece[0].start
    columns = x[some] * (piece[1].step or 1) + piece[1].start
    return values[:, rows, columns].mean(axis=1, dtype=np.float64)


def _agreement(overlap: np.ndarray, masks: Sequence[Mask]) -> np.ndarray:
    """(N, 5): mean, least and largest over the other branches of the best IoU there; how many masks of others it meets
    (log); the best IoU within its own branch.

    overlap : (N, N) IoU of all masks
    """
    branch = np.array([m.branch for m in masks])
    names = sorted(set(branch.tolist()))
    apart = overlap - np.eye(len(masks))  # a mask does not confirm itself
    best = np.stack([apart[:, branch == name].max(axis=1, initial=0) for name in names])  # (branches, N)
    if len(names) == 1:
        nobody = np.zeros(len(masks))
        return np.stack([nobody, nobody, nobody, nobody, best[0]], axis=1)
    is_own = branch[None] == np.array(names)[:, None]  # (branches, N)
    others = np.where(is_own, np.nan, best)
    met = (apart >= MET_IOU) & (branch[:, None] != branch[None])
    columns = [
        np.nanmean(others, axis=0),
        np.nanmin(others, axis=0),
        np.nanmax(others, axis=0),
        np.log1p(met.sum(axis=1)),
        best[is_own.argmax(axis=0), np.arange(len(masks))],
    ]
    return np.stack(columns, axis=1)


def _nesting(overlap: np.ndarray, area_px: np.ndarray) -> np.ndarray:
    """(N, 5): masks that contain it, log of the smallest one's area over its own, masks in it, the largest one's share
    of its area, and the sum of their shares.

    overlap : (N, N) IoU of all masks
    area_px : (N,)
    """
    common_px = overlap * (area_px[:, None] + area_px[None]) / (1 + overlap)  # IoU = common / (sum - common)
    share = common_px / np.maximum(area_px[:, None], 1)  # [i, j]: of mask i that lies in mask j
    larger = area_px[None] > LARGER * area_px[:, None]
    contains = (share >= INSIDE) & larger  # [i, j]: j contains i
    parent_px = np.where(contains, area_px[None], np.inf).min(axis=1)  # inf: nothing contains it
    has_parent = np.isfinite(parent_px)
    parent_area = np.where(has_parent, np.log(np.where(has_parent, parent_px, 1) / area_px), 0)
    child_share = np.where(contains.T, area_px[None] / area_px[:, None], 0)
    columns = [
        np.log1p(contains.sum(axis=1)),
        parent_area,
        np.log1p(contains.sum(axis=0)),
        child_share.max(axis=1, initial=0),
        np.minimum(child_share.sum(axis=1), 3),
    ]
    return np.stack(columns, axis=1)
