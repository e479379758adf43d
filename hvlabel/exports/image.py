"""What every format is given: one image with its masks and their categories, and the outlines of a mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hvlabel.masks import Mask, MaskSet, decode, numeric_id

MOST_NAME_BYTES = 220  # of 255: a number of 16 digits and a suffix come behind


@dataclass(frozen=True)
class ExportImage:
    """One image.

    number       : from 1, in the order of data sets and names
    masks        : best first
    categories   : (N,) position in the list of categories
    numbers      : (N,) position of each mask in its label
    picture      : PNG file content; empty in formats without pictures
    georeference : `crs` and `transform`, as in its provenance; None without
    """

    number: int
    dataset: str
    name: str
    masks: MaskSet
    categories: tuple[int, ...]
    numbers: tuple[int, ...]
    picture: bytes
    georeference: Mapping[str, Any] | None

    @property
    def flat_name(self) -> str:
        """A file name of its own among all data sets, without suffix; a number ends it where the name alone is not."""
        whole = f"{self.dataset}__{self.name}".encode()
        # else the first __ is where the data set's name ends
        is_ambiguous = "__" in self.dataset or self.dataset.endswith("_") or self.name.startswith("_")
        if len(whole) <= MOST_NAME_BYTES and not is_ambiguous:
            return whole.decode()
        number = numeric_id(self.name, self.dataset)
        return f"{whole[:MOST_NAME_BYTES].decode(errors='ignore')}-{number}"


def quality_of(mask: Mask) -> float:
    """The IoU with an object that is expected of a mask; its score where nobody was asked."""
    return float(mask.extra.get("quality", mask.score))


def label_image(masks: MaskSet) -> tuple[np.ndarray, int]:
    """(H, W) uint16 of masks, counted from 1, and how many are hidden; 0: none, of several the best is on top.

    uint32 where there are more masks than uint16 can count.
    """
    dtype = np.uint16 if len(masks) < 2**16 else np.uint32
    image = np.zeros((masks.height_px, masks.width_px), dtype)
    for k in reversed(range(len(masks))):  # the best one last
        image[decode(masks.rles[k])] = k + 1
    visible = len(np.unique(image[image > 0]))
    return image, len(masks) - visible


def rings(mask: np.ndarray) -> list[np.ndarray]:
    """Outlines of an (H, W) bool mask that is not empty: (P, 2) x, y px of pixel edges; holes run the other way round.

    They pass half way between the centres of pixels inside and outside, so a pixel is inside where its centre is.
    """
    from skimage.measure import find_contours  # takes a while to import

    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    y0, y1 = rows[0], rows[-1] + 1
    x0, x1 = columns[0], columns[-1] + 1
    # only its box: a mask is mostly far smaller than its image
    piece = mask[y0:y1, x0:x1]
    padded = np.pad(piece, 1)  # closes the outlines of what touches the border
    outlines = []
    for outline in find_contours(padded.astype(np.float32), 0.5):
        # centres are at whole numbers there, edges here; one px of padding
        xy = outline[:, ::-1] - 0.5 + (x0, y0)
        outlines.append(_without_straight(xy[:-1]))
    return sorted(outlines, key=lambda ring: -abs(ring_area(ring)))


def ring_area(ring: np.ndarray) -> float:
    """Signed area of a (P, 2) ring, px^2: the sign tells outlines from holes."""
    x, y = ring.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    twice = x * next_y - y * next_x  # (P,) of the triangle with the origin
    return float(twice.sum() / 2)


def one_ring(mask: np.ndarray) -> np.ndarray:
    """(P, 2) x, y px: all outer outlines of a mask in one ring, joined by bridges without width; holes are filled.

    For formats that know one polygon per object.
    """
    from skimage.measure import points_in_poly

    outlines = rings(mask)
    first_sign = np.sign(ring_area(outlines[0]))  # the largest one is no hole
    outer: list[np.ndarray] = []
    for ring in outlines:
        is_hole = np.sign(ring_area(ring)) != first_sign
        # an island in a hole lies in what is filled already
        if not is_hole and not any(points_in_poly(ring[:1], larger)[0] for larger in outer):
            outer.append(ring)
    start = outer[0][:1]
    path = [outer[0], start]
    for ring in outer[1:]:  # there, around, and back
        path += [ring, ring[:1], start]
    return np.concatenate(path if len(outer) > 1 else outer)


def n_holes(mask: np.ndarray) -> int:
    """How many holes a mask has."""
    outlines = rings(mask)
    signs = [np.sign(ring_area(ring)) for ring in outlines]
    return sum(sign != signs[0] for sign in signs)  # the largest one is no hole


def _without_straight(ring: np.ndarray) -> np.ndarray:
    """A ring without the points between two others on a line."""
    before = ring - np.roll(ring, 1, axis=0)  # (P, 2) the way to each point
    after = np.roll(ring, -1, axis=0) - ring  # and on from it
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    turns = cross != 0  # exact: corners are whole and half numbers
    return ring[turns] if turns.sum() >= 3 else ring
