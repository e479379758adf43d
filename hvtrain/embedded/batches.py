"""Batches of generated scenes with masks and prompts; each a function of its stage and step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from hvlabel.cube.bands import false_colour_frames
from hvlabel.cube.render import false_colour
from hvlabel.demo.cameras import CAMERAS, DemoCamera, drawn_camera
from hvlabel.demo.scenes import METAMER, Instance, make_photo, make_scene
from hvtrain.embedded.stages import Batch, Stage
from hvtrain.samples import MIN_CELLS, box_of, point_in, to_logits
from hvtrain.student import network_input

# of the demo's cameras; vnir61 is left out, so that there is one never trained on
TRAINED_CAMERAS = tuple(name for name in CAMERAS if name != "vnir61")
MANY_BANDS = 64  # beyond which scenes are taken at their smallest: a batch would take seconds to make
CUT_SHARE = 0.15  # of the batches of clips that end with another scene
MAX_FRAMES = 12  # of a camera's sequence that a clip is cut from


def photo_batch(stage: Stage, step: int) -> Batch:
    """Photographs: rgb (B, S, S, 3) uint8, and what `_prompts` lists."""
    rng = np.random.default_rng([step, 77])
    found: dict[str, list[Any]] = defaultdict(list)
    boxed = bool(rng.random() < stage.boxed)
    for seed in stage.seeds(step):
        size = int(rng.choice(stage.scene_px))
        photo = make_photo(size, seed)
        gain = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.7, 1.2)
        rgb = (np.clip((photo.rgb / 255.0) ** rng.uniform(0.7, 1.4) * gain, 0, 1) * 255).astype(np.uint8)
        turn = int(rng.integers(8))
        found["rgb"].append(_resized(_turned(rgb, turn), stage.side_px, cv2.INTER_LINEAR))
        _prompts(found, photo.materials, photo.instances, turn, stage, boxed, rng)
    return _stacked(found, boxed, rng)


def cube_batch(stage: Stage, step: int) -> Batch:
    """Scenes of one camera: cube (B, C, S, S) float32 as the network takes it, wavelengths_nm, gsd_m, and `_prompts`."""
    rng = np.random.default_rng([step, 78])
    camera = _camera(rng)
    bands = np.sort(rng.permutation(len(camera.centres_nm))[: round(len(camera.centres_nm) * rng.uniform(0.8, 1))])
    light = np.interp(np.arange(len(camera.centres_nm)), *_knots(len(camera.centres_nm), rng)).astype(np.float32)
    found: dict[str, list[Any]] = defaultdict(list)
    boxed = bool(rng.random() < stage.boxed)
    size = int(min(stage.scene_px) if len(bands) > MANY_BANDS else rng.choice(stage.scene_px))
    for seed in stage.seeds(step):
        scene = make_scene(camera, size, seed)
        turn, shape = int(rng.integers(8)), _shape(size, rng)
        signal = np.ascontiguousarray(
            _turned((scene.signal * light[:, None, None])[bands].transpose(1, 2, 0), turn).transpose(2, 0, 1)
        )
        signal[:, shape[0] :], signal[:, :, shape[1] :] = 0, 0
        found["cube"].append(network_input(torch.from_numpy(signal)[None], torch.zeros(1, 2).bool(), stage.side_px)[0])
        _prompts(found, scene.materials, scene.instances, turn, stage, boxed, rng, shape)
    gsd_m = np.full(stage.images, size / stage.side_px * 2 ** rng.uniform(-0.5, 0.5), np.float32)
    return {
        **_stacked(found, boxed, rng),
        "wavelengths_nm": tuple(camera.centres_nm[bands].tolist()),
        "gsd_m": torch.from_numpy(gsd_m),
    }


def clip_batch(stage: Stage, step: int) -> Batch:
    """Clips of false-colour frames: rgb (B, T, S, S, 3) uint8, present (T,) bool, and `_prompts` without clicks beside objects.

    The frames of a clip are drawn from the camera's sequence; they keep its order or the opposite one. In some batches
    the last frame of each clip is another scene's: no object is there.
    """
    rng = np.random.default_rng([step, 79])
    found: dict[str, list[Any]] = defaultdict(list)
    for seed in stage.seeds(step):
        size, camera = int(rng.choice(stage.scene_px)), _camera(rng)
        scene = make_scene(camera, size, seed)
        frames = false_colour_frames(camera.centres_nm, MAX_FRAMES)
        chosen = np.sort(rng.permutation(len(frames))[: stage.frames])
        chosen = np.resize(chosen, stage.frames)[:: rng.choice([-1, 1])]  # cameras of few bands: again from the start
        turn = int(rng.integers(8))
        pictures = [false_colour(scene.signal[list(frames[k].bands)]) * 255 for k in chosen]
        found["rgb"].append(
            np.stack([_resized(_turned(p, turn).astype(np.uint8), stage.side_px, cv2.INTER_LINEAR) for p in pictures])
        )
        _prompts(found, scene.materials, scene.instances, turn, stage, True, rng)
    batch = _stacked(found, True, rng)
    batch["present"] = torch.ones(stage.frames, dtype=torch.bool)
    if stage.images > 1 and rng.random() < CUT_SHARE:
        batch["rgb"][:, -1] = batch["rgb"][:, -1].roll(1, dims=0)
        batch["present"][-1] = False
    return batch


def _camera(rng: np.random.Generator) -> DemoCamera:
    """One of the demo's or, as often, one that exists nowhere."""
    if rng.random() < 0.5:
        return CAMERAS[str(rng.choice(TRAINED_CAMERAS))]
    return drawn_camera(rng)


def _knots(n_bands: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Places and values of a slowly varying gain: another light, another sensor."""
    return np.linspace(0, n_bands - 1, 6), rng.uniform(0.75, 1.25, 6)


def _shape(size_px: int, rng: np.random.Generator) -> tuple[int, int]:
    """(height, width) px of the image; smaller than the square for a third of them, as images are padded."""
    if rng.random() > 1 / 3:
        return size_px, size_px
    short = int(size_px * rng.uniform(0.6, 1))
    return (short, size_px) if rng.random() < 0.5 else (size_px, short)


def _prompts(
    found: dict[str, list[Any]],
    materials: np.ndarray,
    instances: Sequence[Instance],
    turn: int,
    stage: Stage,
    boxed: bool,
    rng: np.random.Generator,
    shape: tuple[int, int] | None = None,
) -> None:
    """Add a scene's prompts: masks (L, L) bool, empty for a click beside all objects, points_xy (2,) and boxes_xyxy (4,) px of
    the network's input, spectral_only; and its materials (L, L) int64. Objects that only a spectrum shows are asked for
    as often as all others together."""
    size, cells_side = len(materials), stage.logits_px
    scale = stage.side_px / size
    seen = np.zeros((size, size), bool)
    seen[tuple(slice(n) for n in shape or seen.shape)] = True
    turned = np.where(seen, _turned(materials, turn), METAMER)
    found["materials"].append(_resized(turned, cells_side, cv2.INTER_NEAREST).astype(np.int64))
    masks = [_turned(i.mask, turn) & seen for i in instances]
    cells = {n: c for n, m in enumerate(masks) if (c := to_logits(m, cells_side)).sum() >= MIN_CELLS}
    hidden = np.array([instances[n].spectral_only for n in cells])
    weight = np.where(hidden, 1 / max(1, hidden.sum()), 1 / max(1, (~hidden).sum()))
    nothing = seen & ~np.logical_or.reduce(masks)
    n_grounds = 0 if boxed or not nothing.any() else stage.grounds
    n_objects = stage.objects + (stage.grounds - n_grounds)
    drawn = rng.choice(list(cells), n_objects, p=weight / weight.sum())
    chosen = [(masks[n], cells[n], instances[n].spectral_only) for n in drawn]
    chosen += [(nothing, np.zeros((cells_side, cells_side), bool), False)] * n_grounds
    for mask, target, spectral_only in chosen:
        box = box_of(mask) + rng.normal(0, 0.05, 4) * np.ptp(box_of(mask).reshape(2, 2), axis=0).repeat(2)
        found["masks"].append(target)
        found["spectral_only"].append(spectral_only)
        found["points_xy"].append(np.array(point_in(mask, rng), np.float32) * scale)
        found["boxes_xyxy"].append(np.clip(box * scale, 0, stage.side_px - 1).astype(np.float32))


def _stacked(found: dict[str, list[Any]], boxed: bool, rng: np.random.Generator) -> Batch:
    tensors = {k: torch.from_numpy(np.stack(v)) for k, v in found.items()}
    return {**tensors, "boxed": boxed, "luck": torch.from_numpy(rng.random(len(found["masks"]))).float()}


def _resized(picture: np.ndarray, side_px: int, how: int) -> np.ndarray:
    return picture if len(picture) == side_px else cv2.resize(picture, (side_px, side_px), interpolation=how)


def _turned(picture: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight rotations and mirrorings."""
    turned = np.rot90(picture, turn % 4)
    return np.ascontiguousarray(turned[:, ::-1] if turn >= 4 else turned)
