"""Batches of generated scenes with masks and prompts; each a function of its stage and step.

Beside the fields of hvtrain.data.batch they have: rgb (B, S, S, 3) uint8 instead of a cube where photographs are meant,
materials (B, L, L) int64, and spectral_only (B * K,) bool, prompts on objects that only a spectrum shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from hvlabel.cube.bands import false_colour_frames
from hvlabel.cube.render import false_colour
from hvlabel.demo.cameras import CAMERAS, DemoCamera, drawn_camera
from hvlabel.demo.scenes import METAMER, Instance, make_photo, make_scene
from hvtrain.data.batch import Batch
from hvtrain.data.inputs import network_input
from hvtrain.data.prompts import MIN_CELLS, box_of, covered_cells, point_in
from hvtrain.recipes.stages import Stage

# of the demo's cameras; vnir61 is left out, so that there is one never trained on
TRAINED_CAMERAS = tuple(name for name in CAMERAS if name != "vnir61")
MANY_BANDS = 64  # beyond which scenes are taken at their smallest: a batch would take seconds to make
CUT_SHARE = 0.15  # of the batches of clips with a frame of another scene
MIN_FRAMES, MAX_FRAMES = 8, 12  # of the sequence that a clip is part of
BOX_JITTER = 0.05  # standard deviation of a box's corners, share of its sides

GAIN_KNOTS, GAINS = 6, (0.75, 1.25)  # of a light that varies along the wavelength
PADDED_SHARE = 1 / 3  # of the cubes that are no squares
PHOTOS, CUBES, CLIPS = 77, 78, 79  # streams of random numbers: a step of one kind is no copy of another's

Collected = dict[str, list[Any]]  # of each field, what every scene or prompt gives


def photo_batch(stage: Stage, step: int) -> Batch:
    """Photographs, lit and developed in many ways."""
    rng = np.random.default_rng([step, PHOTOS])
    fields: Collected = defaultdict(list)
    boxed = bool(rng.random() < stage.boxed)
    for seed in stage.seeds(step):
        size = int(rng.choice(stage.scene_px))
        photo = make_photo(size, seed)
        rgb = _developed(photo.rgb, rng)
        turn = int(rng.integers(8))
        inside = np.ones((size, size), bool)
        turned = _turned(rgb, turn)
        fields["rgb"].append(_resized(turned, stage.side_px, cv2.INTER_LINEAR))
        materials = _classes(photo.materials, turn, stage.logits_px, inside)
        fields["materials"].append(materials)
        objects = _objects(photo.instances, turn, stage.logits_px, inside)
        _add_prompts(fields, objects, inside, stage, boxed, rng)
    return _batch(stage, step, "photographs", fields, rng, boxed=boxed)


def cube_batch(stage: Stage, step: int) -> Batch:
    """Scenes of one camera, as a cube (B, C, S, S) float32 that is network input already."""
    rng = np.random.default_rng([step, CUBES])
    camera = _camera(rng)
    bands = _some_bands(len(camera.centres_nm), rng)
    gain = _gain(camera.centres_nm, rng)
    fields: Collected = defaultdict(list)
    boxed = bool(rng.random() < stage.boxed)
    has_many = len(bands) > MANY_BANDS
    size = int(min(stage.scene_px) if has_many else rng.choice(stage.scene_px))
    for seed in stage.seeds(step):
        scene = make_scene(camera, size, seed)
        turn = int(rng.integers(8))
        height, width = _shape(size, rng)
        inside = np.zeros((size, size), bool)
        inside[:height, :width] = True
        lit = (scene.signal * gain[:, None, None])[bands]  # (C, s, s)
        cube = _as_input(lit, turn, inside, stage.side_px)
        fields["cube"].append(cube)
        materials = _classes(scene.materials, turn, stage.logits_px, inside)
        fields["materials"].append(materials)
        objects = _objects(scene.instances, turn, stage.logits_px, inside)
        _add_prompts(fields, objects, inside, stage, boxed, rng)
    octaves = rng.uniform(-0.5, 0.5)  # a scene's pixel is about a metre
    scene_px = size / stage.side_px  # px of a scene along a px of the input
    gsd_m = np.full(stage.images, scene_px * 2**octaves, np.float32)
    batch = _batch(stage, step, f"cubes of {len(bands)} bands", fields, rng, boxed=boxed)
    batch.wavelengths_nm = tuple(camera.centres_nm[bands].tolist())
    batch.gsd_m = torch.from_numpy(gsd_m)
    return batch


def clip_batch(stage: Stage, step: int) -> Batch:
    """Clips of false-colour frames: rgb (B, T, S, S, 3) uint8 and masks (N, L, L) bool of objects.

    For all clips of a batch: places (T,) in a sequence of n_frames, and present (T,) bool, where the objects are.

    The frames of a clip are drawn from the camera's sequence; they keep its order or the opposite one. In some batches
    one frame after the first is another scene's: no object is there.
    """
    rng = np.random.default_rng([step, CLIPS])
    fields: Collected = defaultdict(list)
    n_frames = int(rng.integers(MIN_FRAMES, MAX_FRAMES, endpoint=True))
    places = np.sort(rng.permutation(n_frames)[: stage.frames])
    for seed in stage.seeds(step):
        size = int(rng.choice(stage.scene_px))
        camera = _camera(rng)
        scene = make_scene(camera, size, seed)
        frames = false_colour_frames(camera.centres_nm, n_frames)
        # cameras of few bands have fewer frames: they begin again
        repeated = np.resize(np.arange(len(frames)), n_frames)
        chosen = repeated[places]
        turn = int(rng.integers(8))
        forwards_or_back = rng.choice([-1, 1])
        clip = []
        for k in chosen[::forwards_or_back]:
            colours = false_colour(scene.signal[list(frames[k].bands)])  # (s, s, 3) in [0, 1]
            picture = (colours * 255).astype(np.uint8)
            turned = _turned(picture, turn)
            clip.append(_resized(turned, stage.side_px, cv2.INTER_LINEAR))
        fields["rgb"].append(np.stack(clip))  # (T, S, S, 3)
        whole = np.ones((size, size), bool)
        objects = _objects(scene.instances, turn, stage.logits_px, whole)
        drawn = _drawn(objects, stage.objects, stage.hidden, rng)
        fields["masks"] += [an_object.cells for an_object in drawn]
    tensors = _stacked(fields)
    uniform = _uniform(len(tensors["masks"]), rng)
    present = torch.ones(stage.frames, dtype=torch.bool)
    if stage.images > 1 and rng.random() < CUT_SHARE:
        cut = int(rng.integers(1, stage.frames))
        at_cut = tensors["rgb"][:, cut]
        tensors["rgb"][:, cut] = at_cut.roll(1, dims=0)  # the frame of another clip
        present[cut] = False
    return Batch(
        step=step,
        source="clips",
        names=_names(stage, step),
        problems=(),
        uniform=uniform,
        places=places.tolist(),
        n_frames=n_frames,
        present=present,
        **tensors,
    )


def _as_input(signal: np.ndarray, turn: int, inside: np.ndarray, side_px: int) -> Tensor:
    """(C, S, S) network input of a scene's signal (C, s, s), turned, and black where `inside` (s, s) is not."""
    turned = _turned(signal.transpose(1, 2, 0), turn)  # (s, s, C)
    cube = np.ascontiguousarray(turned.transpose(2, 0, 1))
    cube[:, ~inside] = 0
    no_flip = torch.zeros(1, 2).bool()  # turned already
    batch_of_one = torch.from_numpy(cube)[None]  # (1, C, s, s)
    return network_input(batch_of_one, no_flip, side_px)[0]


def _batch(stage: Stage, step: int, source: str, fields: Collected, rng: np.random.Generator, *, boxed: bool) -> Batch:
    """Scenes with equally many prompts each as a batch."""
    tensors = _stacked(fields)
    n_prompts = len(tensors["masks"])
    for name in ("masks", "points_xy", "boxes_xyxy"):
        tensors[name] = tensors[name].unflatten(0, (stage.images, -1))  # (B, K, ...)
    return Batch(
        step=step,
        source=source,
        names=_names(stage, step),
        problems=(),
        boxed=boxed,
        weights=tensors["masks"].flatten(2).any(dim=2).float(),
        uniform=_uniform(n_prompts, rng),
        **tensors,
    )


def _names(stage: Stage, step: int) -> tuple[str, ...]:
    return tuple(f"scene {seed}" for seed in stage.seeds(step))


def _uniform(n_prompts: int, rng: np.random.Generator) -> Tensor:
    """(1, N) float32 in [0, 1)."""
    return torch.from_numpy(rng.random(n_prompts)).float()[None]


def _camera(rng: np.random.Generator) -> DemoCamera:
    """One of the demo's or, as often, one that exists nowhere."""
    if rng.random() < 0.5:
        return CAMERAS[str(rng.choice(TRAINED_CAMERAS))]
    return drawn_camera(rng)


def _gain(centres_nm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(C,) float32 that varies slowly along the wavelength: another light, another sensor."""
    knots_nm = np.linspace(centres_nm.min(), centres_nm.max(), GAIN_KNOTS)
    gains = rng.uniform(*GAINS, GAIN_KNOTS)
    return np.interp(centres_nm, knots_nm, gains).astype(np.float32)


def _some_bands(n_bands: int, rng: np.random.Generator) -> np.ndarray:
    """Which of a camera's bands a batch has, in order: four fifths of them or more."""
    order = rng.permutation(n_bands)
    n_kept = round(n_bands * rng.uniform(0.8, 1))
    return np.sort(order[:n_kept])


def _developed(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 of a photograph of the same type: another colour of light, exposure and gamma."""
    light, exposure = rng.uniform(0.85, 1.15, 3), rng.uniform(0.7, 1.2)
    gain = light * exposure  # (3,)
    gamma = rng.uniform(0.7, 1.4)
    developed = (rgb / 255.0) ** gamma * gain
    return (np.clip(developed, 0, 1) * 255).astype(np.uint8)


def _shape(size_px: int, rng: np.random.Generator) -> tuple[int, int]:
    """(height, width) px of the image; smaller than the square for a third of them, as images are padded."""
    if rng.random() > PADDED_SHARE:
        return size_px, size_px
    short = int(size_px * rng.uniform(0.6, 1))
    return (short, size_px) if rng.random() < 0.5 else (size_px, short)


@dataclass(frozen=True)
class _Object:
    """mask (s, s) bool px of the scene, cells (L, L) bool of the decoder's output."""

    mask: np.ndarray
    cells: np.ndarray
    spectral_only: bool


def _objects(instances: Sequence[Instance], turn: int, cells_side: int, inside: np.ndarray) -> list[_Object]:
    """What can be asked for: objects of which enough is inside the image, else the whole image."""
    objects = []
    for instance in instances:
        mask = _turned(instance.mask, turn) & inside
        objects.append(_Object(mask, covered_cells(mask, cells_side), instance.spectral_only))
    large = [an_object for an_object in objects if an_object.cells.sum() >= MIN_CELLS]
    return large or [_Object(inside, covered_cells(inside, cells_side), spectral_only=False)]


def _drawn(objects: list[_Object], n: int, share: float, rng: np.random.Generator) -> list[_Object]:
    """n of them, a share of them, if there are both kinds, such that only a spectrum shows."""
    hidden = np.array([an_object.spectral_only for an_object in objects])
    of_hidden = share / max(1, hidden.sum())
    of_visible = (1 - share) / max(1, (~hidden).sum())
    weight = np.where(hidden, of_hidden, of_visible)
    # divided again: where there is one kind only, its weights add up to its share
    chances = weight / weight.sum()
    chosen = rng.choice(len(objects), n, p=chances)
    return [objects[k] for k in chosen]


def _add_prompts(
    fields: Collected,
    objects: list[_Object],
    inside: np.ndarray,
    stage: Stage,
    boxed: bool,
    rng: np.random.Generator,
) -> None:
    """Add a scene's masks, empty for a click beside all objects, with points and boxes, px of the network's input."""
    scale = stage.side_px / len(inside)
    covered = np.logical_or.reduce([an_object.mask for an_object in objects])
    beside = inside & ~covered
    n_grounds = stage.grounds if beside.any() and not boxed else 0
    ground = _Object(beside, np.zeros_like(objects[0].cells), spectral_only=False)
    n_objects = stage.objects + stage.grounds - n_grounds  # equally many prompts in each scene: they stack
    drawn = _drawn(objects, n_objects, stage.hidden, rng)
    for target in [*drawn, *[ground] * n_grounds]:
        box = box_of(target.mask)  # (4,) xyxy px of the scene
        corners = box.reshape(2, 2)
        sides = np.ptp(corners, axis=0).repeat(2)  # (4,) width, width, height, height
        box = box + rng.normal(0, BOX_JITTER, 4) * sides
        in_input = np.clip(box * scale, 0, stage.side_px - 1)
        point = np.array(point_in(target.mask, rng), np.float32)
        fields["masks"].append(target.cells)
        fields["spectral_only"].append(target.spectral_only)
        fields["points_xy"].append(point * scale)
        fields["boxes_xyxy"].append(in_input.astype(np.float32))


def _classes(materials: np.ndarray, turn: int, cells_side: int, inside: np.ndarray) -> np.ndarray:
    """(L, L) int64 material, METAMER where none is known."""
    known = np.where(inside, _turned(materials, turn), METAMER)
    return _resized(known, cells_side, cv2.INTER_NEAREST).astype(np.int64)


def _stacked(fields: Collected) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.stack(values)) for name, values in fields.items()}


def _resized(picture: np.ndarray, side_px: int, how: int) -> np.ndarray:
    return picture if len(picture) == side_px else cv2.resize(picture, (side_px, side_px), interpolation=how)


def _turned(picture: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight rotations and mirrorings."""
    turned = np.rot90(picture, turn % 4)
    return np.ascontiguousarray(turned[:, ::-1] if turn >= 4 else turned)
