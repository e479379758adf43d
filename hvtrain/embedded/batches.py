"""Batches of generated scenes with masks and prompts; each a function of its stage and step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
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
CUT_SHARE = 0.15  # of the batches of clips with a frame of another scene
MIN_FRAMES, MAX_FRAMES = 8, 12  # of the sequence that a clip is part of


def photo_batch(stage: Stage, step: int) -> Batch:
    """Photographs: rgb (B, S, S, 3) uint8, materials (B, L, L) int64, and what `_prompts` adds."""
    rng = np.random.default_rng([step, 77])
    found: dict[str, list[Any]] = defaultdict(list)
    boxed = bool(rng.random() < stage.boxed)
    for seed in stage.seeds(step):
        size = int(rng.choice(stage.scene_px))
        photo = make_photo(size, seed)
        gain = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.7, 1.2)
        rgb = (np.clip((photo.rgb / 255.0) ** rng.uniform(0.7, 1.4) * gain, 0, 1) * 255).astype(np.uint8)
        turn, seen = int(rng.integers(8)), np.ones((size, size), bool)
        found["rgb"].append(_resized(_turned(rgb, turn), stage.side_px, cv2.INTER_LINEAR))
        found["materials"].append(_classes(photo.materials, turn, stage.logits_px, seen))
        _prompts(found, _objects(photo.instances, turn, stage.logits_px, seen), seen, stage, boxed, rng)
    return {**_stacked(found, rng), "boxed": boxed}


def cube_batch(stage: Stage, step: int) -> Batch:
    """Scenes of one camera: cube (B, C, S, S) float32 as the network takes it, wavelengths_nm, gsd_m (B,), materials
    (B, L, L) int64, and what `_prompts` adds."""
    rng = np.random.default_rng([step, 78])
    camera = _camera(rng)
    bands = np.sort(rng.permutation(len(camera.centres_nm))[: round(len(camera.centres_nm) * rng.uniform(0.8, 1))])
    gain = _gain(camera.centres_nm, rng)
    found: dict[str, list[Any]] = defaultdict(list)
    boxed = bool(rng.random() < stage.boxed)
    size = int(min(stage.scene_px) if len(bands) > MANY_BANDS else rng.choice(stage.scene_px))
    for seed in stage.seeds(step):
        scene = make_scene(camera, size, seed)
        turn, shape = int(rng.integers(8)), _shape(size, rng)
        signal = np.ascontiguousarray(
            _turned((scene.signal * gain[:, None, None])[bands].transpose(1, 2, 0), turn).transpose(2, 0, 1)
        )
        seen = np.zeros((size, size), bool)
        seen[: shape[0], : shape[1]] = True
        signal[:, ~seen] = 0
        found["cube"].append(network_input(torch.from_numpy(signal)[None], torch.zeros(1, 2).bool(), stage.side_px)[0])
        found["materials"].append(_classes(scene.materials, turn, stage.logits_px, seen))
        _prompts(found, _objects(scene.instances, turn, stage.logits_px, seen), seen, stage, boxed, rng)
    gsd_m = np.full(stage.images, size / stage.side_px * 2 ** rng.uniform(-0.5, 0.5), np.float32)
    return {
        **_stacked(found, rng),
        "boxed": boxed,
        "wavelengths_nm": tuple(camera.centres_nm[bands].tolist()),
        "gsd_m": torch.from_numpy(gsd_m),
    }


def clip_batch(stage: Stage, step: int) -> Batch:
    """Clips of false-colour frames: rgb (B, T, S, S, 3) uint8, masks (N, L, L) bool of objects, and for all clips places
    (T,) in a sequence of n_frames, and present (T,) bool.

    The frames of a clip are drawn from the camera's sequence; they keep its order or the opposite one. In some batches
    one frame after the first is another scene's: no object is there.
    """
    rng = np.random.default_rng([step, 79])
    found: dict[str, list[Any]] = defaultdict(list)
    n_frames = int(rng.integers(MIN_FRAMES, MAX_FRAMES, endpoint=True))
    places = np.sort(rng.permutation(n_frames)[: stage.frames])
    for seed in stage.seeds(step):
        size, camera = int(rng.choice(stage.scene_px)), _camera(rng)
        scene = make_scene(camera, size, seed)
        frames = false_colour_frames(camera.centres_nm, n_frames)
        chosen = np.resize(np.arange(len(frames)), n_frames)[places]  # cameras of few bands: again from the start
        turn = int(rng.integers(8))
        pictures = [false_colour(scene.signal[list(frames[k].bands)]) * 255 for k in chosen[:: rng.choice([-1, 1])]]
        found["rgb"].append(
            np.stack([_resized(_turned(p, turn).astype(np.uint8), stage.side_px, cv2.INTER_LINEAR) for p in pictures])
        )
        objects = _objects(scene.instances, turn, stage.logits_px, np.ones((size, size), bool))
        found["masks"] += [o.cells for o in _drawn(objects, stage.objects, stage.hidden, rng)]
    batch = {**_stacked(found, rng), "places": places.tolist(), "n_frames": n_frames}
    batch["present"] = torch.ones(stage.frames, dtype=torch.bool)
    if stage.images > 1 and rng.random() < CUT_SHARE:
        cut = int(rng.integers(1, stage.frames))
        batch["rgb"][:, cut] = batch["rgb"][:, cut].roll(1, dims=0)
        batch["present"][cut] = False
    return batch


def _camera(rng: np.random.Generator) -> DemoCamera:
    """One of the demo's or, as often, one that exists nowhere."""
    if rng.random() < 0.5:
        return CAMERAS[str(rng.choice(TRAINED_CAMERAS))]
    return drawn_camera(rng)


def _gain(centres_nm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(C,) float32 that varies slowly along the wavelength: another light, another sensor."""
    knots_nm = np.linspace(centres_nm.min(), centres_nm.max(), 6)
    return np.interp(centres_nm, knots_nm, rng.uniform(0.75, 1.25, 6)).astype(np.float32)


def _shape(size_px: int, rng: np.random.Generator) -> tuple[int, int]:
    """(height, width) px of the image; smaller than the square for a third of them, as images are padded."""
    if rng.random() > 1 / 3:
        return size_px, size_px
    short = int(size_px * rng.uniform(0.6, 1))
    return (short, size_px) if rng.random() < 0.5 else (size_px, short)


@dataclass(frozen=True)
class _Object:
    """mask (s, s) bool px of the scene, cells (L, L) bool of the decoder's output."""

    mask: np.ndarray
    cells: np.ndarray
    spectral_only: bool


def _objects(instances: Sequence[Instance], turn: int, cells_side: int, seen: np.ndarray) -> list[_Object]:
    """What can be asked for: objects of which enough is seen, else all that is."""
    turned = [(_turned(i.mask, turn) & seen, i.spectral_only) for i in instances]
    objects = [_Object(mask, to_logits(mask, cells_side), hidden) for mask, hidden in turned]
    large = [o for o in objects if o.cells.sum() >= MIN_CELLS]
    return large or [_Object(seen, to_logits(seen, cells_side), spectral_only=False)]


def _drawn(objects: list[_Object], n: int, share: float, rng: np.random.Generator) -> list[_Object]:
    """n of them, a share of them, if there are both kinds, such that only a spectrum shows."""
    hidden = np.array([o.spectral_only for o in objects])
    weight = np.where(hidden, share / max(1, hidden.sum()), (1 - share) / max(1, (~hidden).sum()))
    return [objects[k] for k in rng.choice(len(objects), n, p=weight / weight.sum())]


def _prompts(
    found: dict[str, list[Any]],
    objects: list[_Object],
    seen: np.ndarray,
    stage: Stage,
    boxed: bool,
    rng: np.random.Generator,
) -> None:
    """Add a scene's prompts: masks (L, L) bool, empty for a click beside all objects, points_xy (2,) and boxes_xyxy (4,) px of
    the network's input, spectral_only."""
    scale = stage.side_px / len(seen)
    nothing = seen & ~np.logical_or.reduce([o.mask for o in objects])
    n_grounds = stage.grounds if nothing.any() and not boxed else 0
    ground = _Object(nothing, np.zeros_like(objects[0].cells), spectral_only=False)
    for o in [*_drawn(objects, stage.objects + stage.grounds - n_grounds, stage.hidden, rng), *[ground] * n_grounds]:
        box = box_of(o.mask)
        box = box + rng.normal(0, 0.05, 4) * np.ptp(box.reshape(2, 2), axis=0).repeat(2)
        found["masks"].append(o.cells)
        found["spectral_only"].append(o.spectral_only)
        found["points_xy"].append(np.array(point_in(o.mask, rng), np.float32) * scale)
        found["boxes_xyxy"].append(np.clip(box * scale, 0, stage.side_px - 1).astype(np.float32))


def _classes(materials: np.ndarray, turn: int, cells_side: int, seen: np.ndarray) -> np.ndarray:
    """(L, L) int64 material, METAMER where none is known."""
    known = np.where(seen, _turned(materials, turn), METAMER)
    return _resized(known, cells_side, cv2.INTER_NEAREST).astype(np.int64)


def _stacked(found: dict[str, list[Any]], rng: np.random.Generator) -> Batch:
    tensors = {k: torch.from_numpy(np.stack(v)) for k, v in found.items()}
    return {**tensors, "luck": torch.from_numpy(rng.random(len(found["masks"]))).float()}


def _resized(picture: np.ndarray, side_px: int, how: int) -> np.ndarray:
    return picture if len(picture) == side_px else cv2.resize(picture, (side_px, side_px), interpolation=how)


def _turned(picture: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight rotations and mirrorings."""
    turned = np.rot90(picture, turn % 4)
    return np.ascontiguousarray(turned[:, ::-1] if turn >= 4 else turned)
