"""The middle of an image at the size of a network's input, with what its features are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from hvlabel.cache.features import open_features
from hvlabel.config import PretrainSettings
from hvlabel.cube import Cube, open_cube
from hvlabel.layout import Layout
from hvlabel.masks import decode, read_masks
from hvtrain.data.corpus import TrainImage
from hvtrain.data.inputs import InputRange, network_input
from hvtrain.data.prompts import can_be_asked_for, covered_cells
from hvtrain.data.tokens import tokens_of_box

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Crop:
    """The middle of an image.

    values    : (1, C, S, S) network input
    rgb       : (1, 3, S, S) the picture, as network input
    tokens    : (D, g, g) of the teacher, or None
    zoom      : px of the cube per px of the network's input
    masks     : (N, S, S) bool
    materials : (S, S) uint8, or None
    """

    values: Tensor
    rgb: Tensor
    tokens: Tensor | None
    zoom: float
    masks: np.ndarray
    materials: np.ndarray | None


def middle_crop(
    layout: Layout, settings: PretrainSettings, image: TrainImage, grid: int, input_range: InputRange
) -> Crop:
    """The crop of a labelled image; masks are its ground truth where there is one, else its label's best.

    grid : cells along a side of the student's last map
    """
    side_px = settings.student.crop_px
    cube = open_cube(image.cube)
    side = min(side_px, cube.height_px, cube.width_px)
    y, x = (cube.height_px - side) // 2, (cube.width_px - side) // 2
    box = slice(y, y + side), slice(x, x + side)
    tokens = None
    if image.features is not None:
        values = tokens_of_box(open_features(image.features), (y, x, side), grid)
        tokens = torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)
    materials = _read_classes(layout.materials(image.dataset, image.image_id))
    return Crop(
        values=_input(cube.plain(cube.read(*box)), side_px, input_range),
        rgb=_input(_picture(cube, box), side_px, input_range),
        tokens=tokens,
        zoom=side / side_px,
        masks=_masks(layout, settings, image, box, 4 * grid),
        materials=None if materials is None else _resized(materials[box], side_px),
    )


def _input(values: np.ndarray, side_px: int, input_range: InputRange) -> Tensor:
    no_flip = torch.zeros(1, 2, dtype=torch.bool)
    return network_input(torch.from_numpy(values)[None], no_flip, side_px, input_range)


def _picture(cube: Cube, box: Box) -> np.ndarray:
    """(3, h, w) uint8."""
    return np.ascontiguousarray(cube.rgb[box].transpose(2, 0, 1))


def _masks(layout: Layout, settings: PretrainSettings, image: TrainImage, box: Box, cells: int) -> np.ndarray:
    """(N, S, S) bool: masks in a box by the rule of training, `cells` along a side of the decoder's output."""
    side_px = settings.student.crop_px
    truth = layout.truth(image.dataset, image.image_id)
    best = read_masks(truth if truth.exists() else image.label).masks[: settings.data.best_masks]
    masks: list[np.ndarray] = []
    for candidate in best:
        mask = _resized(decode(candidate.rle)[box], side_px)
        if can_be_asked_for(covered_cells(mask, cells), settings.data.max_area_share):
            masks.append(mask)
    masks = masks[: settings.evaluation.max_masks]
    return np.stack(masks) if masks else np.zeros((0, side_px, side_px), bool)


def _read_classes(path: Path) -> np.ndarray | None:
    """(H, W) uint8 of a PNG, None if there is none."""
    if not path.exists():
        return None
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)


def _resized(classes: np.ndarray, side_px: int) -> np.ndarray:
    """A bool mask or class map at (side, side), nearest."""
    if classes.shape == (side_px, side_px):
        return classes
    out = cv2.resize(classes.astype(np.uint8), (side_px, side_px), interpolation=cv2.INTER_NEAREST)
    return out.astype(classes.dtype)
