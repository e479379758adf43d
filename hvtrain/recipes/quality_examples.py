"""What the quality predictor learns from: masks of generated scenes with their features and their IoU with the truth.

A mask's target is its best IoU with an object. Beside what the branches made, true masks are grown, shrunk, shifted,
cut, and merged with others: whatever makes masks errs in these ways. Pieces of the scenes are judged too. Objects run
out of a piece as they run out of a photograph, while of a whole scene only the ground reaches the border.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from hvlabel.cache.index import all_indexes
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import ScoreError
from hvlabel.layout import Layout
from hvlabel.masks import Mask, MaskSet, decode, encode, iou_matrix, read_document, read_masks
from hvlabel.quality import mask_features
from hvlabel.quality.view import make_view

CORRUPTED_PER_OBJECT = 2
CORRUPTED_WEIGHT = 0.3  # beside 1 of the branches' masks, which are what will be judged
MIN_AREA_PX = 20  # of a spoilt or cut mask that is kept: of a few pixels no feature tells much
PIECES = 2  # of each scene
PIECE_SHARE = (0.45, 0.75)  # of the scene's sides
PIECE_WEIGHT = 0.5  # of their masks: the two count as one picture
NOISE = (0.0, 0.01)  # deviations added to the values, share of their spread: of each scene a clean and a noisy copy


@dataclass(frozen=True)
class Examples:
    """Masks with what is known of them.

    features : (N, F) float32, in the order of hvlabel.quality.NAMES
    iou      : (N,) in [0, 1] with the truth
    weight   : (N,) in the loss
    scene    : (N,) int, number of the scene that each mask is of
    """

    features: np.ndarray
    iou: np.ndarray
    weight: np.ndarray
    scene: np.ndarray


@dataclass(frozen=True)
class Picture:
    """A scene or a piece of one.

    values : (C, H, W) float32, live bands
    rgb    : (H, W, 3) uint8
    valid  : (H, W) bool; None: all pixels hold a value
    pool   : masks of all branches
    truth  : its objects
    """

    values: np.ndarray
    rgb: np.ndarray
    valid: np.ndarray | None
    pool: list[Mask]
    truth: MaskSet

    @classmethod
    def of(cls, cube: Cube, pool: list[Mask], truth: MaskSet) -> Picture:
        """A whole cube."""
        return cls(cube.live_values(), cube.rgb, cube.valid, pool, truth)


def labelled_scenes(results: Path) -> Iterator[tuple[str, str, Picture]]:
    """(data set, image, picture) of every label that has ground truth."""
    layout = Layout(results)
    for index in all_indexes(layout, "labels"):
        dataset = index.dataset
        for image_id, entry in index.images.items():
            truth = layout.truth(dataset, image_id)
            if entry.status != "ok" or not truth.exists():
                continue
            cube = open_cube(layout.cube(dataset, image_id))
            pool = pool_of(layout, dataset, image_id)
            yield dataset, image_id, Picture.of(cube, pool, read_masks(truth))


def pool_of(layout: Layout, dataset: str, image_id: str) -> list[Mask]:
    """The masks of all branches that an image's label was made from.

    MaskFileError if a file is missing or damaged.
    """
    label = read_document(layout.label(dataset, image_id))
    pool: list[Mask] = []
    for branch in label["provenance"]["branches"]:
        pool += read_masks(layout.masks(branch, dataset, image_id)).masks
    return pool


def piece_of(picture: Picture, random: np.random.Generator) -> Picture:
    """A part of a picture, anywhere in it, with what is left there of its masks and objects.

    Its sides are PIECE_SHARE of the picture's, both by the same share. What has fewer than MIN_AREA_PX px left is
    dropped.
    """
    truth = picture.truth
    share = random.uniform(*PIECE_SHARE)
    height_px, width_px = int(truth.height_px * share), int(truth.width_px * share)
    top = int(random.integers(0, truth.height_px - height_px + 1))
    left = int(random.integers(0, truth.width_px - width_px + 1))
    window = np.s_[top : top + height_px, left : left + width_px]
    valid = picture.valid
    return Picture(
        values=np.ascontiguousarray(picture.values[:, *window]),
        rgb=np.ascontiguousarray(picture.rgb[window]),
        valid=None if valid is None else np.ascontiguousarray(valid[window]),
        pool=_left_in(picture.pool, window),
        truth=MaskSet(height_px, width_px, tuple(_left_in(truth.masks, window))),
    )


def _left_in(masks: Sequence[Mask], window: tuple[slice, slice]) -> list[Mask]:
    """What is left of some masks in a part of their picture; specks are dropped."""
    left = []
    for mask in masks:
        inside = decode(mask.rle)[window]
        if np.count_nonzero(inside) >= MIN_AREA_PX:
            left.append(replace(mask, rle=encode(np.ascontiguousarray(inside))))
    return left


def collect(
    folders: Sequence[Path], random: np.random.Generator, only: set[tuple[Path, str, str]] | None = None
) -> Examples:
    """The examples of some runs: of each scene the branches' masks and spoilt ones, clean and noisy; and its pieces.

    folders : results folders of runs with ground truth
    only    : (folder, data set, image) of those that count; None: all
    MaskFileError or CubeError where a file of a run is missing or damaged, ScoreError where none has ground truth.
    """
    parts: list[Examples] = []
    n_scenes = 0
    for folder in folders:
        for dataset, image_id, picture in labelled_scenes(folder):
            if only is not None and (folder, dataset, image_id) not in only:
                continue
            parts += _of_whole(picture, random, n_scenes)
            for _ in range(PIECES):
                # numbered as its scene: what knows the scene must not judge the piece
                parts.append(examples_of(piece_of(picture, random), PIECE_WEIGHT, n_scenes))
            n_scenes += 1
    if not parts:
        named = ", ".join(map(str, folders))
        raise ScoreError(
            f"{named}: no label with ground truth; label generated scenes first (config/quality_scenes.yaml)"
        )
    return _concatenated(parts)


def examples_of(picture: Picture, weight: float, scene: int) -> Examples:
    """The branches' masks of one picture, all of one weight."""
    view = make_view(picture.values, picture.rgb, picture.valid)
    return examples_with(mask_features(picture.pool, view), picture.pool, picture.truth, weight, scene)


def _of_whole(picture: Picture, random: np.random.Generator, scene: int) -> list[Examples]:
    """The branches' masks of one scene and spoilt true ones, with and without noise."""
    pool, truth, values = picture.pool, picture.truth, picture.values
    parts = []
    for noise in NOISE:
        # drawn for the clean copy too: all other draws then stay the same whatever NOISE is
        deviations = random.normal(0, 1, values.shape).astype(np.float32)
        noisy = values + deviations * values.std() * np.float32(noise)
        view = make_view(noisy if noise else values, picture.rgb, picture.valid)
        parts.append(examples_with(mask_features(pool, view), pool, truth, 1.0, scene))
        spoilt = corrupted(truth, pool, random)
        # in one pool with the branches' masks: some features say how a mask stands among the others
        of_all = mask_features([*pool, *spoilt], view)
        features = of_all[len(pool) :]
        parts.append(examples_with(features, spoilt, truth, CORRUPTED_WEIGHT, scene))
    return parts


def examples_with(features: np.ndarray, masks: Sequence[Mask], truth: MaskSet, weight: float, scene: int) -> Examples:
    """Masks of one scene, features (N, F), all of one weight."""
    n = len(features)
    iou = truth_iou(masks, truth)
    weights, scenes = np.repeat(weight, n), np.repeat(scene, n)  # each (N,)
    return Examples(features, iou=iou, weight=weights, scene=scenes)


def _concatenated(parts: Sequence[Examples]) -> Examples:
    return Examples(
        features=np.concatenate([part.features for part in parts]),
        iou=np.concatenate([part.iou for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        scene=np.concatenate([part.scene for part in parts]),
    )


def joined(parts: Sequence[Examples]) -> Examples:
    """Several sets of examples as one; scenes are numbered anew."""
    renumbered = []
    first = 0
    for part in parts:
        renumbered.append(replace(part, scene=part.scene + first))
        first += int(part.scene.max()) + 1
    return _concatenated(renumbered)


def corrupted(truth: MaskSet, pool: Sequence[Mask], random: np.random.Generator) -> list[Mask]:
    """True masks spoilt as masks are spoilt, with what some mask of the pool says about itself."""
    objects = [decode(rle) for rle in truth.rles]
    made = []
    for k, mask in enumerate(objects):
        for _ in range(CORRUPTED_PER_OBJECT):
            partner = objects[int(random.integers(len(objects)))] if len(objects) > 1 else mask
            spoilt = _spoil(mask, partner, random)
            if spoilt.sum() < MIN_AREA_PX:
                continue
            # scores of another mask: of a spoilt mask they must not say how good it is
            donor = pool[int(random.integers(len(pool)))] if pool else truth.masks[k]
            scored_as_donor = Mask(
                encode(spoilt),
                donor.score,
                branch="corrupted",
                point_xy=(0.0, 0.0),
                predicted_iou=donor.predicted_iou,
                stability_score=donor.stability_score,
                extra=donor.extra,
            )
            made.append(scored_as_donor)
    return made


def _spoil(mask: np.ndarray, partner: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One (H, W) bool mask grown, shrunk, shifted, cut in two, merged with its partner, or left as it is."""
    side_px = mask.sum() ** 0.5  # of a square of its area
    max_reach_px = max(2, round(0.25 * side_px))
    reach_px = int(random.integers(1, max_reach_px + 1))
    width_px = 2 * reach_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px))
    kind = random.choice(["grow", "shrink", "shift", "cut", "merge", "keep"])
    if kind == "grow":
        return cv2.dilate(mask.astype(np.uint8), disc).astype(bool)
    if kind == "shrink":
        return cv2.erode(mask.astype(np.uint8), disc).astype(bool)
    if kind == "shift":
        offset_px = random.integers(-2 * reach_px, 2 * reach_px + 1, 2)
        return np.asarray(np.roll(mask, offset_px, axis=(0, 1)))
    if kind == "cut":
        return _cut(mask, random)
    if kind == "merge":
        return np.asarray(mask | partner)
    return mask


def _cut(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What of an (H, W) bool mask lies on one side of a straight line of any direction: 20 to 80 % of it."""
    height, width = mask.shape
    y, x = np.nonzero(mask)
    angle = random.uniform(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    across = cos * np.arange(width)[None] + sin * np.arange(height)[:, None]  # (H, W) px across the line
    of_mask = cos * x + sin * y
    edge = np.quantile(of_mask, random.uniform(0.2, 0.8))
    return np.asarray(mask & (across < edge))


def truth_iou(masks: Sequence[Mask], truth: MaskSet) -> np.ndarray:
    """(N,) best IoU with an object."""
    iou = iou_matrix([mask.rle for mask in masks], truth.rles)  # (N, objects)
    return iou.max(axis=1, initial=0.0)  # of a scene without objects 0
