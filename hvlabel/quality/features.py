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
MOST_COVER = 3  # children of children count again: their shares may add up to any number
MET_IOU = 0.7
LEAST, LEAST_CONTRAST = 1e-6, 1e-3  # added before a logarithm: a flat piece of image has neither spread nor edges

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
    rles = [mask.rle for mask in masks]
    area_px = areas(rles).astype(float)  # (N,)
    boxes = boxes_xyxy(rles).astype(int)  # (N, 4)
    overlap = iou_matrix(rles, rles)  # (N, N)
    looks = [_look(mask, box, view) for mask, box in zip(masks, boxes, strict=True)]
    # in the order of NAMES
    groups = [
        np.stack(looks),
        np.array([_own_word(mask) for mask in masks], np.float32),
        _agreement(overlap, masks),
        _nesting(overlap, area_px),
    ]
    return np.concatenate(groups, axis=1, dtype=np.float32)


def _own_word(mask: Mask) -> list[float]:
    """Predicted IoU, stability and score; on how many pictures or frames it was met, at least its own."""
    n_linked = len(mask.extra.get("linked_frames", ()))
    confirmed = float(mask.extra.get("confirmed", n_linked or 1))
    return [mask.predicted_iou, mask.stability_score, mask.score, confirmed]


def _look(mask: Mask, box_xyxy: np.ndarray, view: View) -> np.ndarray:
    """Shape, sight of components and picture, and spectral angle of one mask, judged on a piece around it."""
    whole = decode(mask.rle)  # (H, W)
    x0, y0, x1, y1 = (int(edge) for edge in box_xyxy)
    area_px = float(np.count_nonzero(whole[y0:y1, x0:x1]))  # in the box alone: images are large
    size_px = max(1.0, area_px) ** 0.5
    ring_px = int(np.clip(round(RING_SHARE * size_px), *RING_PX))
    with_ring = (x0 - ring_px, y0 - ring_px, x1 + ring_px, y1 + ring_px)
    piece, step = _piece(whole, with_ring)  # thinned by step: a ring narrower than that is one px there
    inside = np.ascontiguousarray(whole[piece])  # (h, w); OpenCV takes no views with steps
    outline, ring = _edge_and_ring(inside, max(1, ring_px // step))
    sound = inside  # the shape is the mask's, values count where there are some
    if view.valid is not None:
        valid = view.valid[piece]
        ring &= valid
        sound = inside & valid
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
    x0, y0, x1, y1 = around_xyxy
    left, top = max(0, x0), max(0, y0)
    right, bottom = min(width, x1), min(height, y1)
    longest_px = max(bottom - top, right - left)
    step = max(1, -(-longest_px // MOST_SIDE_PX))  # rounded up
    piece = np.s_[top:bottom:step, left:right:step]
    if not whole[piece].any():  # thinned out of sight
        return np.s_[top:bottom, left:right], 1
    return piece, step


def _edge_and_ring(inside: np.ndarray, reach_px: int) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) bool pixels along a mask's outline, and those around it up to a distance."""
    in_bytes = inside.view(np.uint8)
    width_px = 2 * reach_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px))
    square = np.ones((3, 3), np.uint8)
    grown = cv2.dilate(in_bytes, disc).view(bool)
    shrunk = cv2.erode(in_bytes, square).view(bool)
    return inside & ~shrunk, grown & ~inside


def _shape(inside: np.ndarray, whole: np.ndarray, box_xyxy: tuple[int, int, int, int]) -> list[float]:
    """SHAPE. inside: the mask on its thinned piece; whole: (H, W) bool."""
    x0, y0, x1, y1 = box_xyxy
    rows, columns = y1 - y0, x1 - x0
    area_px = int(np.count_nonzero(whole[y0:y1, x0:x1]))
    between = whole[1:-1]  # the corners count once, as ends of rows
    border = np.concatenate([whole[0], whole[-1], between[:, 0], between[:, -1]])
    contours, _ = cv2.findContours(inside.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    blank = np.zeros(inside.shape, np.uint8)
    filled = cv2.drawContours(blank, contours, -1, 1, cv2.FILLED)
    n_inside = int(np.count_nonzero(inside))
    n_filled = max(1, int(np.count_nonzero(filled)))  # with its holes
    perimeter = sum(cv2.arcLength(contour, closed=True) for contour in contours)
    hull = cv2.convexHull(np.concatenate(contours))
    hull_area = cv2.contourArea(hull)
    contour_areas = [cv2.contourArea(contour) for contour in contours]
    log_area = np.log(max(area_px, 1) / whole.size)
    fill = area_px / max(rows * columns, 1)
    aspect = abs(np.log(max(rows, 1) / max(columns, 1)))  # 0 of a square, the same lying and standing
    compactness = 4 * np.pi * n_filled / max(perimeter, 1.0) ** 2  # 1 of a disc, less of all else
    solidity = min(1.0, n_filled / max(hull_area, 1.0))  # a contour runs through centres: its area is a bit small
    holes = 1 - n_inside / n_filled
    pieces = max(contour_areas) / max(sum(contour_areas), 1.0)
    return [log_area, fill, aspect, float(border.mean()), compactness, solidity, holes, pieces]


def _sight(
    image: np.ndarray, edges: np.ndarray, inside: np.ndarray, ring: np.ndarray, outline: np.ndarray
) -> list[float]:
    """SIGHT of a mask on an (h, w, D) image.

    spread, ring_spread : log of the mean deviation inside and in the ring
    contrast            : log of the distance between both centres, in deviations inside
    own                 : share of pixels inside that are nearer to their own centre
    foreign             : share of pixels of the ring that are nearer to the mask's centre
    edge                : log of the gradient along the outline over that inside
    """
    of_mask = image[inside]  # (n, D)
    of_ring = image[ring]  # (m, D)
    if not len(of_mask) or not len(of_ring):
        return [0.0] * len(SIGHT)
    mask_centre = np.median(of_mask, axis=0)  # medians: a mask that is a little off holds some of the ring
    ring_centre = np.median(of_ring, axis=0)
    spread = float(np.abs(of_mask - mask_centre).mean()) + LEAST
    ring_spread = float(np.abs(of_ring - ring_centre).mean()) + LEAST
    distance = float(np.linalg.norm(mask_centre - ring_centre))
    # a pixel is nearer to the mask's centre than to the ring's on one side of the plane half way between them
    towards_mask = mask_centre - ring_centre
    half_way = (mask_centre + ring_centre) / 2
    own = (of_mask - half_way) @ towards_mask > 0
    foreign = (of_ring - half_way) @ towards_mask > 0
    interior = inside & ~outline
    calm = edges[interior] if interior.any() else edges[inside]
    calm_gradient = float(calm.mean())
    edge_gradient = float(edges[outline].mean()) if outline.any() else calm_gradient
    contrast = np.log(distance / spread + LEAST_CONTRAST)
    edge = np.log((edge_gradient + LEAST) / (calm_gradient + LEAST))
    return [np.log(spread), np.log(ring_spread), contrast, float(own.mean()), float(foreign.mean()), edge]


def _angle(values: np.ndarray, piece: tuple[slice, slice], inside: np.ndarray, ring: np.ndarray) -> float:
    """Angle between the mean spectra of some pixels inside and in the ring, radians."""
    if not inside.any() or not ring.any():
        return 0.0
    of_mask = _mean_spectrum(values, piece, inside)
    of_ring = _mean_spectrum(values, piece, ring)
    lengths = np.linalg.norm(of_mask) * np.linalg.norm(of_ring)
    cosine = of_mask @ of_ring / max(lengths, 1e-300)
    return float(np.arccos(np.clip(cosine, -1, 1)))  # rounding may take it a little beyond 1


def _mean_spectrum(values: np.ndarray, piece: tuple[slice, slice], marked: np.ndarray) -> np.ndarray:
    """(C,) float64 mean of at most SPECTRA spectra, evenly spread over the marked pixels of a piece."""
    y, x = np.nonzero(marked)
    n_chosen = min(SPECTRA, len(y))
    chosen = np.linspace(0, len(y) - 1, n_chosen).astype(int)
    of_rows, of_columns = piece
    # back from the thinned piece to the image
    rows = y[chosen] * (of_rows.step or 1) + of_rows.start
    columns = x[chosen] * (of_columns.step or 1) + of_columns.start
    return values[:, rows, columns].mean(axis=1, dtype=np.float64)


def _agreement(overlap: np.ndarray, masks: Sequence[Mask]) -> np.ndarray:
    """(N, 5): mean, least and largest over the other branches of the best IoU there; how many masks of others it meets
    (log); the best IoU within its own branch.

    overlap : (N, N) IoU of all masks
    """
    n_masks = len(masks)
    branch = np.array([mask.branch for mask in masks])
    names = sorted(set(branch.tolist()))
    apart = overlap - np.eye(n_masks)  # a mask does not confirm itself
    best_in = [apart[:, branch == name].max(axis=1, initial=0) for name in names]
    best = np.stack(best_in)  # (branches, N)
    if len(names) == 1:
        nobody = np.zeros(n_masks)
        return np.stack([nobody, nobody, nobody, nobody, best[0]], axis=1)
    is_own = branch[None] == np.array(names)[:, None]  # (branches, N)
    in_others = np.where(is_own, np.nan, best)
    of_another = branch[:, None] != branch[None]  # (N, N)
    met = (apart >= MET_IOU) & of_another
    own_branch = is_own.argmax(axis=0)  # (N,)
    columns = [
        np.nanmean(in_others, axis=0),
        np.nanmin(in_others, axis=0),
        np.nanmax(in_others, axis=0),
        np.log1p(met.sum(axis=1)),
        best[own_branch, np.arange(n_masks)],
    ]
    return np.stack(columns, axis=1)


def _nesting(overlap: np.ndarray, area_px: np.ndarray) -> np.ndarray:
    """(N, 5): masks that contain it, log of the smallest one's area over its own, masks in it, the largest one's share
    of its area, and the sum of their shares.

    overlap : (N, N) IoU of all masks
    area_px : (N,)
    """
    of_row, of_column = area_px[:, None], area_px[None]  # areas of masks i and j, below
    common_px = overlap * (of_row + of_column) / (1 + overlap)  # IoU = common / (sum - common)
    share = common_px / np.maximum(of_row, 1)  # [i, j]: of mask i that lies in mask j
    is_larger = of_column > LARGER * of_row
    contains = (share >= INSIDE) & is_larger  # [i, j]: j contains i
    parent_px = np.where(contains, of_column, np.inf).min(axis=1)  # inf: nothing contains it
    has_parent = np.isfinite(parent_px)
    finite_px = np.where(has_parent, parent_px, 1)  # the logarithm is taken of all
    parent_area = np.where(has_parent, np.log(finite_px / area_px), 0)
    child_share = np.where(contains.T, of_column / of_row, 0)
    columns = [
        np.log1p(contains.sum(axis=1)),
        parent_area,
        np.log1p(contains.sum(axis=0)),
        child_share.max(axis=1, initial=0),
        np.minimum(child_share.sum(axis=1), MOST_COVER),
    ]
    return np.stack(columns, axis=1)
