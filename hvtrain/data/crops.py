"""Crops of labelled cubes as batches: values, masks with their prompts, teacher tokens of the same place."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from hvlabel.cache.features import Features, open_features
from hvlabel.config import PretrainSettings
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import CubeError
from hvlabel.masks import decode
from hvtrain.data.batch import Batch, mirrored
from hvtrain.data.corpus import Corpus, TrainImage
from hvtrain.data.inputs import finite, resized
from hvtrain.data.label_pack import LabelPack
from hvtrain.data.prompts import (
    begins_with_boxes,
    box_of,
    can_be_asked_for,
    correction_draws,
    covered_cells,
    in_drawn_order,
    jittered,
    point_in,
)
from hvtrain.data.schedule import CROP, Sample, rng
from hvtrain.data.tokens import tokens_of_box

TRIES = 4  # masks decoded at most per mask that is needed: bounds the time of a crop in which few can be asked for
OPEN_FILES = 2048  # headers of cubes and features kept by each worker, so that a crop parses none again
FLIP_SHARE = 0.5  # of the samples that are mirrored along an axis
MASK_FIELDS = frozenset({"masks", "weights", "points_xy", "boxes_xyxy"})


class Crops(Dataset[Batch]):
    """Batches by [(step, position, image)]; equal arguments give equal samples in any process.

    images    : what may be cropped, in the order of the label pack
    needs     : fields of a batch that are needed; masks are decoded and tokens read only if they are among them
    grid      : tokens along a side of the student's last map
    logits_px : side of the decoder's output
    """

    def __init__(
        self,
        corpus: Corpus,
        images: list[TrainImage],
        pack: LabelPack,
        settings: PretrainSettings,
        needs: frozenset[str],
        grid: int,
        logits_px: int,
    ) -> None:
        self.images, self.pack, self.settings = images, pack, settings
        self.cameras, self.teacher_channels = corpus.cameras, corpus.teacher_channels
        self.grid, self.logits_px = grid, logits_px
        self.with_masks = bool(needs & MASK_FIELDS)
        self.with_tokens = "teacher" in needs
        self.by_camera: dict[int, list[int]] = {}
        for k, image in enumerate(images):
            self.by_camera.setdefault(image.camera, []).append(k)

    def __getitems__(self, places: list[Sample]) -> Batch:
        return self.batch(places)  # what a DataLoader asks for when it has a batch sampler

    def batch(self, places: list[Sample]) -> Batch:
        """Samples of one camera and step. Crops are read straight into the batch, in a worker into shared memory."""
        settings = self.settings
        step, _, first = places[0]
        camera = self.cameras[self.images[first].camera]
        side_px = self._side_px(step)
        dtype = _stored_type([self.images[k] for _, _, k in places])
        shape = (len(places), len(camera.wavelengths_nm), side_px, side_px)
        cubes = _empty(shape, dtype)  # (B, C, s, s)
        problems: list[str] = []
        samples = []
        for place, out in zip(places, cubes.numpy(), strict=True):
            samples.append(self._sample(place, out, problems))
        names = tuple(sample.pop("name") for sample in samples)
        batch = Batch(
            step=step,
            source=camera.name,
            names=names,
            problems=tuple(problems),
            wavelengths_nm=camera.wavelengths_nm,
            cube=cubes,
            position=torch.tensor([position for _, position, _ in places]),
            **default_collate(samples),
        )
        batch.gsd_m = batch.zoom * settings.student.gsd_m
        if self.with_masks:
            rounds_and_masks = settings.prompts.corrections, settings.data.masks_per_image
            batch.boxed = begins_with_boxes(settings.seed, step, settings.prompts.box_share)
            positions = batch.position.tolist()
            batch.uniform = correction_draws(settings.seed, step, positions, rounds_and_masks)
        return batch

    def _side_px(self, step: int) -> int:
        """Side of a step's crops in px of the cube: one zoom for all, so that they stack."""
        low, high = self.settings.data.scale
        # equal chances for equal ratios: half and double are as far from 1
        draw = rng(self.settings.seed, CROP, step).random()
        zoom = low * (high / low) ** draw
        return max(1, round(self.settings.student.crop_px * zoom))

    def bytes_of(self, n_samples: int) -> int:
        """Memory of the cubes of the largest batch, each camera as its first image is stored."""
        side_px = round(self.settings.student.crop_px * self.settings.data.scale[1])
        pixel_bytes = []
        for camera, images in self.by_camera.items():
            first = self.images[images[0]]
            n_bands = len(self.cameras[camera].wavelengths_nm)
            pixel_bytes.append(n_bands * _stored_type([first]).itemsize)
        return n_samples * max(pixel_bytes) * side_px**2

    def _sample(self, place: Sample, out: np.ndarray, problems: list[str]) -> dict[str, Any]:
        """Everything of a sample but its cube, which is written to `out` (C, s, s).

        One bad image does not end a run of days: another of its camera stands in.
        """
        step, position, k = place
        random = rng(self.settings.seed, CROP, step, position + 1)  # place 0 of a step is its zoom's
        sample = self._attempt(k, random, out, problems)
        if sample is not None:
            return sample
        same_camera = self.by_camera[self.images[k].camera]
        for other in random.permutation(same_camera).tolist():
            # the batch's memory is laid out already: only float32 can hold another stored type
            if out.dtype not in (np.float32, _stored_type([self.images[other]])):
                continue
            sample = self._attempt(other, random, out, problems)
            if sample is not None:
                return sample
        return self._blank(out)

    def _attempt(
        self, k: int, random: np.random.Generator, out: np.ndarray, problems: list[str]
    ) -> dict[str, Any] | None:
        """A crop of image k; None and a sentence in `problems` if it cannot be read."""
        try:
            return self._crop(k, random, out)
        except (CubeError, OSError) as error:
            problems.append(f"{self.images[k].name}: {error}")
            return None

    def _crop(self, k: int, random: np.random.Generator, out: np.ndarray) -> dict[str, Any]:
        """A crop of image k."""
        image = self.images[k]
        cube = _open_cube(image.cube)
        crop_px = self.settings.student.crop_px
        side = min(out.shape[-1], cube.height_px, cube.width_px)
        y = _origin(cube.height_px, side, cube.chunk_side_px, random)
        x = _origin(cube.width_px, side, cube.chunk_side_px, random)
        # drawn even where nothing is mirrored: what is drawn after it then stays the same
        flips = random.random(2) < (FLIP_SHARE if self.settings.data.flip else 0.0)
        box = slice(y, y + side), slice(x, x + side)
        if side == out.shape[-1]:
            cube.plain(cube.read(*box, threads=1, out=out))
        else:  # an image smaller than the crop: brought to the size of the others
            values = cube.plain(cube.read(*box, threads=1))
            out[:] = _enlarged(values, out.shape[-1])
        input_per_cube = crop_px / side  # px of the network's input per px of the cube
        sample: dict[str, Any] = {"flips": flips, "zoom": np.float32(1 / input_per_cube), "name": image.name}
        if self.with_masks:
            sample |= self._masks(k, (y, x, side), flips, random)
        if self.with_tokens:
            assert image.features is not None
            features = _open_features(image.features)
            tokens = tokens_of_box(features, (y, x, side), self.grid)
            sample["teacher"] = np.ascontiguousarray(mirrored(tokens, flips))
        return sample

    def _blank(self, out: np.ndarray) -> dict[str, Any]:
        """What stands for a camera of which no image can be read: it asks for no mask."""
        out[:] = 0
        sample: dict[str, Any] = {"flips": np.zeros(2, bool), "zoom": np.float32(1), "name": "nothing"}
        if self.with_masks:
            sample |= self._no_masks()
        if self.with_tokens:
            sample["teacher"] = np.zeros((self.grid, self.grid, self.teacher_channels), np.float16)
        return sample

    def _no_masks(self) -> dict[str, np.ndarray]:
        """Prompts of weight 0: a batch stacks, and a crop without masks counts for nothing."""
        n = self.settings.data.masks_per_image
        return {
            "masks": np.zeros((n, self.logits_px, self.logits_px), bool),
            "weights": np.zeros(n, np.float32),
            "points_xy": np.zeros((n, 2), np.float32),
            "boxes_xyxy": np.zeros((n, 4), np.float32),
        }

    def _masks(
        self, k: int, box: tuple[int, int, int], flips: np.ndarray, random: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """K masks of image k in a box (top, left, side px), repeated if fewer, with points and jittered boxes."""
        y, x, side = box
        data, jitter = self.settings.data, self.settings.prompts.box_jitter
        qualities = self.pack.quality(k)  # (n,)
        reaching = self._in_box(k, box)
        candidates = in_drawn_order(reaching, qualities, data.draw_temperature, random)
        masks, points, boxes, weights = [], [], [], []
        for mask in candidates[: TRIES * data.masks_per_image]:
            whole = decode(self.pack.rle(k, int(mask)))  # (H, W)
            part = whole[y : y + side, x : x + side]
            cropped = mirrored(part, flips)  # (side, side)
            cells = covered_cells(cropped, self.logits_px)  # (L, L)
            if not can_be_asked_for(cells, data.max_area_share):
                continue
            masks.append(cells)
            points.append(point_in(cropped, random))
            boxes.append(jittered(box_of(cropped), jitter, side, random))
            weights.append(qualities[mask] if self.settings.loss.by_quality else 1.0)
            if len(masks) == data.masks_per_image:
                break
        if not masks:
            return self._no_masks()
        repeated = np.arange(data.masks_per_image) % len(masks)  # (K,): all masks, then the first ones again
        scale = self.settings.student.crop_px / side
        return {
            "masks": np.stack(masks)[repeated],
            "weights": np.array(weights, np.float32)[repeated],
            "points_xy": _scaled(np.array(points)[repeated], scale),
            "boxes_xyxy": _scaled(np.array(boxes)[repeated], scale),
        }

    def _in_box(self, k: int, box: tuple[int, int, int]) -> np.ndarray:
        """Which of the best masks of image k reach into a box, by their own boxes."""
        y, x, side = box
        best = self.pack.boxes(k)[: self.settings.data.best_masks]  # (n, 4) xywh
        left, top, width, height = best.T
        right, bottom = left + width, top + height
        overlap_x = np.minimum(right, x + side) - np.maximum(left, x)
        overlap_y = np.minimum(bottom, y + side) - np.maximum(top, y)
        return np.flatnonzero((overlap_x > 0) & (overlap_y > 0))


def _scaled(px: np.ndarray, scale: float) -> np.ndarray:
    """Places in px, float32, on a grid `scale` times as fine: the centre of pixel 0 lies half a pixel from the edge."""
    scaled = (px + 0.5) * scale - 0.5
    return scaled.astype(np.float32)


def _origin(size: int, side: int, chunk: int, random: np.random.Generator) -> int:
    """A start on the chunk grid, so that a crop touches as few chunks as it can; or the end of the axis."""
    starts = [*range(0, size - side + 1, chunk), size - side]
    return int(starts[random.integers(len(starts))])


def _enlarged(values: np.ndarray, side_px: int) -> np.ndarray:
    """(C, side, side) in the stored type, of values (C, s, s)."""
    x = torch.from_numpy(values.astype(np.float32))[None]  # (1, C, s, s)
    enlarged = resized(finite(x), side_px)[0]
    return enlarged.numpy().astype(values.dtype)


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
    """A tensor of any content; inside a worker in memory that it shares with the process that trains."""
    torch_dtype = torch.from_numpy(np.empty(0, dtype)).dtype
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch_dtype)
    # as torch's own collating does: what a worker hands over in such memory is not copied
    n_bytes = math.prod(shape) * torch_dtype.itemsize
    shared: Any = torch.UntypedStorage._new_shared(n_bytes)
    flat = torch.empty(0, dtype=torch_dtype).set_(shared)
    return flat.reshape(shape)


def _stored_type(images: list[TrainImage]) -> np.dtype[Any]:
    """The type in which these images are stored; float32 if they differ."""
    dtypes = set()
    for image in images:
        with suppress(CubeError, OSError):  # named when its crop is read
            dtypes.add(_open_cube(image.cube).dtype)
    return dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32)


@lru_cache(OPEN_FILES)
def _open_cube(path: Path) -> Cube:
    return open_cube(path)


@lru_cache(OPEN_FILES)
def _open_features(path: Path) -> Features:
    return open_features(path)
