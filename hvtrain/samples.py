"""Samples: a crop of a cube, masks in it, prompts that ask for them, teacher tokens of the same crop."""

from __future__ import annotations

import math
import shutil
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from hvlabel.cache.features import Features, open_features
from hvlabel.config import HardwareSettings, PretrainSettings
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import CubeError, ResultsError
from hvlabel.masks import decode
from hvtrain.corpus import Corpus, TrainImage
from hvtrain.label_pack import LabelPack
from hvtrain.schedule import CROP, BatchOrder, Sample, rng

MIN_CELLS = 4  # of the decoder's output that a mask must cover to be asked for
SHARED_MEMORY = Path("/dev/shm")
TRIES = 4  # masks looked at per mask wanted
OPEN_FILES = 2048  # headers of cubes and features kept by each worker


class Batch(SimpleNamespace):
    """B samples of one camera with K masks each. No dataclass: engines would cast the floats of one to half precision.

    cube       : (B, C, s, s) stored values, s in px of the cube
    flips      : (B, 2) bool, to be mirrored along y and x; masks, prompts and tokens already are
    masks      : (B, K, L, L) bool at the decoder's output size
    weights    : (B, K) float32, 0 where a crop holds no mask
    points_xy  : (B, K, 2) float32 px of the network's input, inside the mask
    boxes_xyxy : (B, K, 4) float32 px of the network's input
    teacher    : (B, g, g, D) float16, D may be 0
    zoom       : (B,) float32 px of the cube per px of the network's input
    position   : (B,) int64 position of each sample in its step's batch
    names      : image of each sample
    problems   : sentences about images that could not be read and were replaced
    """

    step: int
    camera: int
    cube: Tensor
    flips: Tensor
    masks: Tensor
    weights: Tensor
    points_xy: Tensor
    boxes_xyxy: Tensor
    teacher: Tensor
    zoom: Tensor
    position: Tensor
    names: tuple[str, ...]
    problems: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.cube)

    def pin_memory(self) -> Batch:
        """The same in page-locked memory."""
        return self._each(lambda t: t.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """The same on a device; the copy does not wait."""
        return self._each(lambda t: t.to(device, non_blocking=True))

    def _each(self, change: Any) -> Batch:
        return Batch(**{k: change(v) if isinstance(v, Tensor) else v for k, v in vars(self).items()})


class Samples(Dataset[Batch]):
    """Batches by [(step, position, image)]; equal arguments give equal samples in any process.

    images    : what may be asked for, in the order of the label pack
    grid      : tokens along a side of the decoder's input
    logits_px : side of the decoder's output
    """

    def __init__(
        self,
        corpus: Corpus,
        images: list[TrainImage],
        pack: LabelPack,
        settings: PretrainSettings,
        grid: int,
        logits_px: int,
    ) -> None:
        self.images, self.pack, self.settings = images, pack, settings
        self.cameras, self.teacher_channels = corpus.cameras, corpus.teacher_channels
        self.grid, self.logits_px = grid, logits_px
        self.by_camera: dict[int, list[int]] = {}
        for k, image in enumerate(images):
            self.by_camera.setdefault(image.camera, []).append(k)

    def __getitems__(self, places: list[Sample]) -> Batch:
        return self.batch(places)  # what a DataLoader asks for when it has a batch sampler

    def batch(self, places: list[Sample]) -> Batch:
        """Samples of one camera and one step. Crops are read straight into the batch, inside a worker into shared memory."""
        step, _, first = places[0]
        camera = self.images[first].camera
        low, high = self.settings.data.scale
        zoom = low * (high / low) ** rng(self.settings.seed, CROP, step).random()  # one for all, so that crops stack
        side = max(1, round(self.settings.student.crop_px * zoom))
        shape = (len(places), len(self.cameras[camera].wavelengths_nm), side, side)
        cubes = _empty(shape, _stored_type([self.images[k] for _, _, k in places]))
        problems: list[str] = []
        samples = [self._filled(p, out, problems) for p, out in zip(places, cubes.numpy(), strict=True)]
        return Batch(
            step=step,
            camera=camera,
            cube=cubes,
            position=torch.tensor([position for _, position, _ in places]),
            names=tuple(s.pop("names") for s in samples),
            problems=tuple(problems),
            **default_collate(samples),
        )

    def bytes_of(self, n_samples: int) -> int:
        """Memory of the cubes of the largest batch, each camera as its first image is stored."""
        side = round(self.settings.student.crop_px * self.settings.data.scale[1])
        of_pixel = [
            len(self.cameras[camera].wavelengths_nm) * _stored_type([self.images[ks[0]]]).itemsize
            for camera, ks in self.by_camera.items()
        ]
        return n_samples * max(of_pixel) * side**2

    def _filled(self, place: Sample, out: np.ndarray, problems: list[str]) -> dict[str, Any]:
        """Everything of a sample but its cube, which is written to `out`."""
        step, position, k = place
        random = rng(self.settings.seed, CROP, step, position + 1)
        found = self._attempt(k, random, out, problems)
        if found is None:  # one bad image does not end a run of days: another of its camera stands in
            others = random.permutation(self.by_camera[self.images[k].camera]).tolist()
            fitting = (o for o in others if out.dtype in (np.float32, _stored_type([self.images[o]])))
            attempts = (self._attempt(other, random, out, problems) for other in fitting)
            found = next((f for f in attempts if f is not None), None) or self._blank(out)
        return found

    def _attempt(
        self, k: int, random: np.random.Generator, out: np.ndarray, problems: list[str]
    ) -> dict[str, Any] | None:
        try:
            return self._sample(k, random, out)
        except (CubeError, OSError) as error:
            problems.append(f"{self.images[k].name}: {error}")
            return None

    def _sample(self, k: int, random: np.random.Generator, out: np.ndarray) -> dict[str, Any]:
        image = self.images[k]
        cube = _open_cube(image.cube)
        crop_px = self.settings.student.crop_px
        side = min(out.shape[-1], cube.height_px, cube.width_px)
        y, x = (_origin(n, side, cube.chunk_side_px, random) for n in cube.shape[1:])
        flips = random.random(2) < (0.5 if self.settings.data.flip else 0.0)
        box = slice(y, y + side), slice(x, x + side)
        if side == out.shape[-1]:
            cube.plain(cube.read(*box, threads=1, out=out))
        else:  # an image smaller than the crop: brought to the size of the others
            out[:] = _resized(cube.plain(cube.read(*box, threads=1)), out.shape[-1])
        masks, points_xy, boxes = self._masks(k, (y, x, side), flips, random)
        tokens = np.zeros((self.grid, self.grid, 0), np.float16)
        if image.features is not None:
            tokens = tokens_of_box(_open_features(image.features), (y, x, side), self.grid)
            tokens = np.ascontiguousarray(tokens[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1])
        scale = crop_px / side
        return {
            "flips": flips,
            "masks": masks,
            "weights": np.full(len(masks), float(masks.any()), np.float32),
            "points_xy": ((points_xy + 0.5) * scale - 0.5).astype(np.float32),
            "boxes_xyxy": ((boxes + 0.5) * scale - 0.5).astype(np.float32),
            "teacher": tokens,
            "zoom": np.float32(1 / scale),
            "names": image.name,
        }

    def _blank(self, out: np.ndarray) -> dict[str, Any]:
        """What stands for a camera of which no image can be read: it asks for no mask."""
        out[:] = 0
        n = self.settings.data.masks_per_image
        return {
            "flips": np.zeros(2, bool),
            "masks": np.zeros((n, self.logits_px, self.logits_px), bool),
            "weights": np.zeros(n, np.float32),
            "points_xy": np.zeros((n, 2), np.float32),
            "boxes_xyxy": np.zeros((n, 4), np.float32),
            "teacher": np.zeros((self.grid, self.grid, self.teacher_channels), np.float16),
            "zoom": np.float32(1),
            "names": "nothing",
        }

    def _masks(
        self, k: int, box: tuple[int, int, int], flips: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """K masks (K, L, L) bool, a point in each (K, 2) and their jittered boxes (K, 4), px of the crop."""
        y, x, side = box
        data, prompts = self.settings.data, self.settings.prompts
        n = data.masks_per_image
        left, top, width, height = self.pack.boxes(k)[: data.best_masks].T
        seen_w = np.minimum(left + width, x + side) - np.maximum(left, x)
        seen_h = np.minimum(top + height, y + side) - np.maximum(top, y)
        seen = np.flatnonzero((seen_w > 0) & (seen_h > 0))
        found, points, boxes = [], [], []
        for mask in random.permutation(seen)[: TRIES * n]:
            full = decode(self.pack.rle(k, int(mask)))[y : y + side, x : x + side]
            full = full[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
            small = to_logits(full, self.logits_px)
            if not MIN_CELLS <= small.sum() <= data.max_area_share * small.size:
                continue
            found.append(small)
            points.append(point_in(full, random))
            boxes.append(_jittered(box_of(full), prompts.box_jitter, side, random))
            if len(found) == n:
                break
        if not found:
            return np.zeros((n, self.logits_px, self.logits_px), bool), np.zeros((n, 2)), np.zeros((n, 4))
        again = np.arange(n) % len(found)
        return np.stack(found)[again], np.array(points)[again], np.array(boxes)[again]


def make_loader(samples: Samples, order: BatchOrder, hardware: HardwareSettings, *, pin: bool) -> DataLoader[Any]:
    """Batches in the sampler's order, prepared ahead by workers that are started afresh (never forked)."""
    workers = hardware.workers
    return DataLoader(
        samples,
        batch_sampler=order,
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=batches_ahead(samples.bytes_of(order.size), hardware) if workers else None,
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_start_worker,
        pin_memory=pin,
    )


def batches_ahead(batch_bytes: int, hardware: HardwareSettings, shared: Path = SHARED_MEMORY) -> int:
    """Batches that each worker prepares, so that all together fill at most half of what shared memory has free.

    ResultsError if not even one of each worker fits.
    """
    if not shared.is_dir():
        return hardware.prefetch
    free, workers = shutil.disk_usage(shared).free, hardware.workers * hardware.processes()
    if 2 * batch_bytes * workers > free:  # one that is made, one that is used
        raise ResultsError(
            f"{shared}: {free / 2**30:.1f} GiB free, {workers} workers need {2 * batch_bytes * workers / 2**30:.1f} for two batches each; "
            "raise pretrain.optimiser.accumulate, lower batch_images or hardware.workers, or enlarge it (containers: --shm-size)"
        )
    return max(1, min(hardware.prefetch, free // 2 // (batch_bytes * workers)))


def finite(x: Tensor) -> Tensor:
    """Values that are no numbers or infinite as 0: they must neither spread nor set the scale."""
    return torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)


def to_logits(mask: np.ndarray, side_px: int) -> np.ndarray:
    """(side, side) bool: cells that a mask covers by at least half."""
    return cv2.resize(mask.astype(np.float32), (side_px, side_px), interpolation=cv2.INTER_AREA) >= 0.5


def point_in(mask: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    """(x, y) of a pixel of an (h, w) bool mask, each as likely."""
    inside = np.flatnonzero(mask)
    y, x = divmod(int(inside[random.integers(len(inside))]), mask.shape[1])
    return float(x), float(y)


def box_of(mask: np.ndarray) -> np.ndarray:
    """(4,) xyxy of a non-empty (h, w) bool mask: first and last pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float64)


def tokens_of_box(features: Features, box: tuple[int, int, int], grid: int) -> np.ndarray:
    """(grid, grid, D) float16 features at the centres of a box cut into grid x grid cells, bilinear between tokens.

    box : top, left and side, px of the picture; beyond the outermost token centres the outermost token counts
    """
    windows, weights = [], []
    for start, size, stride in zip(box[:2], features.shape, features.stride_yx_px, strict=False):
        centres = start + (np.arange(grid) + 0.5) * box[2] / grid
        place = np.clip(centres / stride - 0.5, 0, size - 1)
        first, last = math.floor(place[0]), min(math.floor(place[-1]) + 1, size - 1)
        distance = np.abs(place[:, None] - np.arange(first, last + 1))
        windows.append(slice(first, last + 1))
        weights.append(np.maximum(1 - distance, 0).astype(np.float32))  # (grid, tokens), rows sum to 1
    tokens = features.read(*windows).astype(np.float32)
    along_x = np.einsum("gx,yxd->ygd", weights[1], tokens)
    return np.einsum("gy,yxd->gxd", weights[0], along_x).astype(np.float16)


def _origin(size: int, side: int, chunk: int, random: np.random.Generator) -> int:
    """A start on the chunk grid, so that a crop touches as few chunks as it can; or the end of the axis."""
    starts = [*range(0, size - side + 1, chunk), size - side]
    return int(starts[random.integers(len(starts))])


def _jittered(box: np.ndarray, jitter: float, side: int, random: np.random.Generator) -> np.ndarray:
    size = np.tile(box[2:] - box[:2] + 1, 2)
    moved = np.clip(box + random.normal(0, jitter, 4) * size, 0, side - 1)
    return np.concatenate([np.minimum(moved[:2], moved[2:]), np.maximum(moved[:2], moved[2:])])


def _resized(values: np.ndarray, side_px: int) -> np.ndarray:
    """(C, side, side) in the stored type."""
    x = finite(torch.from_numpy(values.astype(np.float32))[None])
    out = torch.nn.functional.interpolate(x, size=(side_px, side_px), mode="bilinear", antialias=True)[0].numpy()
    return out.astype(values.dtype)


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
    """A tensor of any content; inside a worker in memory that it shares with the process that trains."""
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    if get_worker_info() is None:
        return torch.empty(shape, dtype=kind)
    shared: Any = torch.UntypedStorage._new_shared(math.prod(shape) * kind.itemsize)  # as torch's own collating does
    return torch.empty(0, dtype=kind).set_(shared).reshape(shape)


def _stored_type(images: list[TrainImage]) -> np.dtype[Any]:
    """The type in which these images are stored; float32 if they differ."""
    kinds = set()
    for image in images:
        with suppress(CubeError, OSError):  # told about when its crop is asked for
            kinds.add(_open_cube(image.cube).dtype)
    return kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)


def _as_it_is(batch: Any) -> Any:
    return batch


@lru_cache(OPEN_FILES)
def _open_cube(path: Any) -> Cube:
    return open_cube(path)


@lru_cache(OPEN_FILES)
def _open_features(path: Any) -> Features:
    return open_features(path)


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
