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

Box = tuple[slice, slice]  # rows and columns of the image
CELLS_PER_TOKEN = 4  # along a side of the prompt decoder's output, as in training


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
    side = min(side_px, cube.height_px, cube.width_px)  # px of the cube; an image smaller than a crop is enlarged
    top = (cube.height_px - side) // 2
    left = (cube.width_px - side) // 2
    rows, columns = slice(top, top + side), slice(left, left + side)
    values = cube.plain(cube.read(rows, columns))  # (C, side, side)
    tokens = None
    if image.features is not None:
        features = open_features(image.features)
        of_box = tokens_of_box(features, (top, left, side), grid)  # (g, g, D)
        channels_last = torch.from_numpy(of_box.astype(np.float32))
        tokens = channels_last.permute(2, 0, 1)
    materials = _read_classes(layout.materials(image.dataset, image.image_id))
    return Crop(
        values=_input(values, side_px, input_range),
        rgb=_input(_picture(cube, (rows, columns)), side_px, input_range),
        tokens=tokens,
        zoom=side / side_px,
        masks=_masks(layout, settings, image, (rows, columns), CELLS_PER_TOKEN * grid),
        materials=None if materials is None else _resized(materials[rows, columns], side_px),
    )


def _input(values: np.ndarray, side_px: int, input_range: InputRange) -> Tensor:
    """(1, C, S, S) of values (C, s, s), as training makes it."""
    no_flip = torch.zeros(1, 2, dtype=torch.bool)
    batch_of_one = torch.from_numpy(values)[None]
    return network_input(batch_of_one, no_flip, side_px, input_range)


def _picture(cube: Cube, box: Box) -> np.ndarray:
    """(3, h, w) uint8."""
    channels_first = cube.rgb[box].transpose(2, 0, 1)
    return np.ascontiguousarray(channels_first)


def _masks(layout: Layout, settings: PretrainSettings, image: TrainImage, box: Box, cells: int) -> np.ndarray:
    """(N, S, S) bool: masks in a box by the rule of training, `cells` along a side of the decoder's output."""
    side_px = settings.student.crop_px
    truth = layout.truth(image.dataset, image.image_id)
    candidates = read_masks(truth if truth.exists() else image.label).masks
    masks: list[np.ndarray] = []
    for candidate in candidates[: settings.data.best_masks]:
        whole = decode(candidate.rle)  # (H, W)
        mask = _resized(whole[box], side_px)
        if can_be_asked_for(covered_cells(mask, cells), settings.data.max_area_share):
            masks.append(mask)
    masks = masks[: settings.evaluation.max_masks]
    return np.stack(masks) if masks else np.zeros((0, side_px, side_px), bool)


def _read_classes(path: Path) -> np.ndarray | None:
    """(H, W) uint8 of a PNG, None if there is none."""
    if not path.exists():
        return None
    content = np.frombuffer(path.read_bytes(), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)


def _resized(classes: np.ndarray, side_px: int) -> np.ndarray:
    """A bool mask or class map at (side, side), nearest."""
    if classes.shape == (side_px, side_px):
        return classes
    size = (side_px, side_px)
    resized = cv2.resize(classes.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)  # it knows no bool
    return resized.astype(classes.dtype)
