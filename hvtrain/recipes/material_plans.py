"""What a batch of generated scenes is made of: surfaces, their spectra, masks and prompts, laid out on CPUs.

Cubes are not made here: a plan is no larger than a picture however many bands the camera has, and is rendered where the
network is (material_rendering).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from hvlabel.demo.cameras import CAMERAS, DemoCamera, drawn_camera
from hvlabel.demo.scenes import SceneParts, scene_parts
from hvlabel.models.sam.conditioning import MAX_GROUPS

TRAIN_SEEDS = 1_000_000_000  # of training scenes, upwards; benches use seeds below a million
TRAINED_CAMERAS = tuple(name for name in CAMERAS if name != "vnir61")  # one is left out, so that there is one unseen
DRAWN_SHARE = 0.5  # of the cameras exist nowhere
MAX_SURFACES, MAX_OBJECTS = 48, 28  # of a scene; a few more than there ever are
SCENE_SIDES, SCENE_SHARES = (0.75, 1.0, 1.5), (0.15, 0.6, 0.25)  # in sides of the input, and how often each is drawn
CUT_SHARE = 0.35  # of the batches of larger scenes that are cut out of, not shrunk
PADDED_SHARE, LEAST_SIDE = 0.3, 0.5  # of the images are no square; their short side
KEPT_BANDS = (0.8, 1.0)  # share of a camera's bands
MIN_BANDS = 3
GAIN, GAIN_KNOTS = (0.75, 1.25), 6  # of the sensor or the light, smooth along the wavelength
MOVED_SHARE = 0.35  # of the cameras have their wavelengths moved, so that all of the dictionary learns
MOVED_NM, MIN_SPAN_NM = (400.0, 2500.0), 100.0
NOISE_FACTORS = (0.5, 3.0)
MIN_CELLS = 24  # px of the input of an object that can be asked for
JITTER_PX, BOX_JITTER = 0.5, 0.04  # of a point; of a box, as a share of its sides
POINT, BOX = 0, 1  # kinds of prompts
NOTHING = -1  # target of a prompt beside all objects
PLANS_AHEAD = 4  # of each worker

Plan = dict[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """Of a batch.

    ground : share of the prompts that fall anywhere, as those of a grid do
    boxed  : share of the others that are boxes
    """

    images: int = 16
    prompts: int = 16
    input_px: int = 256
    ground: float = 0.25
    boxed: float = 0.2


def plan_batch(shape: Shape, step: int) -> Plan:
    """A batch of the training, a function of its shape and its step. P is the input's side, S the scenes'.

    surface    : (B, S, S) uint8, and brightness (B, S, S) float16, as in SceneParts
    table      : (B, MAX_SURFACES, G) float32 signal of each surface in each group of bands
    n_bands    : (B, G) float32 bands of each group, 0 for a group that is not there
    centres_nm : (B, G) float32
    noise      : (B,) float32 factor
    hw         : (B, 2) px of the input that the image takes
    masks      : (B, MAX_OBJECTS, P, P / 8) uint8, bits of a row packed
    points_xy  : (B, K, 2), and boxes_xyxy (B, K, 4), float32 px of the input
    kinds      : (B, K) POINT or BOX
    targets    : (B, K) which of the masks is asked for, or NOTHING
    """
    rng = np.random.default_rng([step, 81])
    in_inputs = rng.choice(SCENE_SIDES, p=SCENE_SHARES)
    side = int(in_inputs * shape.input_px)
    cut = side > shape.input_px and rng.random() < CUT_SHARE
    first_seed = TRAIN_SEEDS + step * shape.images
    plans = [_plan(shape, side, cut, first_seed + k, rng) for k in range(shape.images)]
    batch = {}
    for name in plans[0]:
        of_images = [plan[name] for plan in plans]
        batch[name] = torch.from_numpy(np.stack(of_images))
    return batch


class Plans(IterableDataset[Plan]):
    """The plans of all steps from one on, without end; worker k of n makes every n-th."""

    def __init__(self, shape: Shape, first_step: int) -> None:
        self.shape, self.first_step = shape, first_step

    def __iter__(self) -> Iterator[Plan]:
        worker = torch.utils.data.get_worker_info()
        start, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:  # there is a process for each core
            torch.set_num_threads(1)
            cv2.setNumThreads(1)
        step = self.first_step + start
        while True:
            yield plan_batch(self.shape, step)
            step += stride


def plan_loader(shape: Shape, first_step: int, workers: int) -> DataLoader[Plan]:
    """Plans from a step on, made in the background where there are workers."""
    background: dict[str, Any] = {}
    if workers:
        background = {"prefetch_factor": PLANS_AHEAD, "multiprocessing_context": "forkserver"}
    return DataLoader(Plans(shape, first_step), batch_size=None, num_workers=workers, **background)


def _plan(shape: Shape, side: int, cut: bool, seed: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One image of a batch."""
    drawn = rng.random() >= 1 - DRAWN_SHARE
    camera = drawn_camera(rng) if drawn else CAMERAS[str(rng.choice(TRAINED_CAMERAS))]
    parts = scene_parts(camera, side, seed)
    masks = [instance.mask for instance in parts.instances]
    window = _window(side, shape.input_px, rng) if cut else np.s_[:, :]
    table, n_bands, centres_nm = _signals(camera, parts, rng)
    hw = _image_hw(shape.input_px, rng)
    in_window = [mask[window] for mask in masks]
    cells = _cells(in_window, shape.input_px, hw)
    # of equal size for all images, so that they stack; packed, since plans travel between processes
    packed = np.zeros((MAX_OBJECTS, shape.input_px, shape.input_px // 8), np.uint8)
    packed[: len(cells)] = np.packbits(cells, axis=2)
    noise = np.exp(rng.uniform(*np.log(NOISE_FACTORS)))  # equal chances for equal ratios
    return {
        "surface": parts.surface[window].astype(np.uint8),
        "brightness": parts.brightness[window].astype(np.float16),
        "table": table,
        "n_bands": n_bands,
        "centres_nm": centres_nm,
        "noise": np.array(noise, np.float32),
        "hw": np.array(hw),
        "masks": packed,
        **_prompts(shape, cells, hw, rng),
    }


def _window(side: int, input_px: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """A place of the input's size in a scene."""
    y, x = rng.integers(0, side - input_px, 2, endpoint=True)
    return slice(y, y + input_px), slice(x, x + input_px)


def _signals(
    camera: DemoCamera, parts: SceneParts, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Table, n_bands and centres_nm of a plan: bands in groups as `grouped` makes them, some left out, gain varied."""
    order = np.argsort(camera.centres_nm, kind="stable")
    n = len(order)
    shuffled = rng.permutation(n)
    share = rng.uniform(*KEPT_BANDS)
    n_kept = max(MIN_BANDS, round(n * share))
    kept = np.sort(shuffled[:n_kept])
    gains = rng.uniform(*GAIN, GAIN_KNOTS)
    at_bands = np.linspace(0, 1, n)
    at_knots = np.linspace(0, 1, GAIN_KNOTS)
    gain = np.interp(at_bands, at_knots, gains)  # (C,)
    response = camera.response()[order] * gain[:, None]
    response = response[kept]
    centres_nm = _moved(camera.centres_nm[order][kept], rng)

    table = np.zeros((MAX_SURFACES, MAX_GROUPS), np.float32)
    n_bands = np.zeros(MAX_GROUPS, np.float32)
    group_nm = np.zeros(MAX_GROUPS, np.float32)
    n_groups = min(MAX_GROUPS, n_kept)
    groups = np.array_split(np.arange(n_kept), n_groups)
    for g, members in enumerate(groups):
        signal = parts.spectra @ response[members].mean(axis=0)  # (surfaces,)
        table[: len(signal), g] = signal[:MAX_SURFACES]
        n_bands[g] = len(members)
        group_nm[g] = centres_nm[members].mean()
    return table, n_bands, group_nm


def _moved(centres_nm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rising band centres as they are or, now and then, stretched to another range."""
    if rng.random() >= MOVED_SHARE:
        return centres_nm
    low_nm, high_nm = np.sort(rng.uniform(*MOVED_NM, 2))
    high_nm = max(high_nm, low_nm + MIN_SPAN_NM)
    span_nm = max(float(np.ptp(centres_nm)), 1.0)
    share = (centres_nm - centres_nm[0]) / span_nm  # 0 to 1
    return low_nm + share * (high_nm - low_nm)


def _image_hw(side: int, rng: np.random.Generator) -> tuple[int, int]:
    """(height, width) px of the image in the input."""
    if rng.random() > PADDED_SHARE:
        return side, side
    short = int(side * rng.uniform(LEAST_SIDE, 1))
    return (short, side) if rng.random() < 0.5 else (side, short)


def _cells(masks: list[np.ndarray], side: int, hw: tuple[int, int]) -> np.ndarray:
    """(M, P, P) bool masks at the input's size, those of which enough lies in the image."""
    height, width = hw
    cells = np.zeros((len(masks), side, side), bool)
    for of_mask, mask in zip(cells, masks, strict=True):
        fitted = mask
        if len(mask) != side:
            values = mask.astype(np.float32)
            share = cv2.resize(values, (side, side), interpolation=cv2.INTER_AREA)
            fitted = share >= 0.5
        of_mask[:height, :width] = fitted[:height, :width]
    large = cells.sum(axis=(1, 2)) >= MIN_CELLS
    return cells[large][:MAX_OBJECTS]


def _prompts(shape: Shape, cells: np.ndarray, hw: tuple[int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Points, boxes, kinds and targets of a plan."""
    n_prompts = shape.prompts
    n_anywhere = round(n_prompts * shape.ground) if len(cells) else n_prompts
    height, width = hw
    points = np.zeros((n_prompts, 2), np.float32)
    boxes = np.zeros((n_prompts, 4), np.float32)
    kinds = np.full(n_prompts, POINT)
    targets = np.full(n_prompts, NOTHING)
    for k in range(n_anywhere):
        x = rng.uniform(0, width - 1)
        y = rng.uniform(0, height - 1)
        points[k] = x, y
        is_there = cells[:, round(y), round(x)]  # (M,)
        holding = np.flatnonzero(is_there)
        if len(holding):  # a part or its whole
            targets[k] = rng.choice(holding)
    for k in range(n_anywhere, n_prompts):
        targets[k] = rng.integers(len(cells))
        rows, columns = np.nonzero(cells[targets[k]])
        pixel = rng.integers(len(rows))
        inside_xy = np.array([columns[pixel], rows[pixel]])
        points[k] = inside_xy + rng.uniform(-JITTER_PX, JITTER_PX, 2)
        if rng.random() < shape.boxed:
            kinds[k] = BOX
            boxes[k] = _jittered_box(rows, columns, shape.input_px, rng)
    return {"points_xy": points, "boxes_xyxy": boxes, "kinds": kinds, "targets": targets}


def _jittered_box(rows: np.ndarray, columns: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """(4,) x0, y0, x1, y1 px around pixels, as a hand would draw it."""
    left, right = columns.min(), columns.max() + 1  # the far edge of the last pixel
    top, bottom = rows.min(), rows.max() + 1
    box = np.array([left, top, right, bottom], np.float32)
    extent = np.tile(box[2:] - box[:2], 2)  # width, height, twice
    jitter = rng.normal(0, BOX_JITTER, 4) * extent
    return np.clip(box + jitter, 0, side)
