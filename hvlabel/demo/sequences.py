"""Generated sequences: an object moves over a still scene, among others that a colour picture cannot tell from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvlabel.cache.publish import publish_bytes
from hvlabel.demo.cameras import DemoCamera, companion_response, companion_rgb
from hvlabel.demo.canvas import Canvas, blob, draw_background, specimen
from hvlabel.demo.light import brightness_of, exposed, lit_spectra
from hvlabel.demo.materials import MATERIALS, illuminant, metamer

N_DISTRACTORS = 2
RADIUS = (0.07, 0.11)  # of the object, share of the side
SPEED = (0.015, 0.04)  # per frame, share of the side
STRENGTH = 0.3  # largest change of a distractor's reflectance that is aimed at
BOXES_FILE = "groundtruth_rect.txt"  # beside the frames, as benchmarks of tracking have it


@dataclass(frozen=True)
class MovingObject:
    """A sequence of T frames.

    signals    : T of (C, H, W) float32, about [0, 1]
    companions : T of (H, W, 3) uint8 photographs
    boxes_xywh : (T, 4) int px, of the object in each frame
    """

    signals: tuple[np.ndarray, ...]
    companions: tuple[np.ndarray, ...]
    boxes_xywh: np.ndarray


def moving_object(camera: DemoCamera, size_px: int, n_frames: int, seed: int) -> MovingObject:
    """The sequence of a seed: light and grounds stand still, all objects move straight on and turn back at the edges.

    Distractors have the object's outline and are metamers of it: equal in the RGB that the pipeline shows.
    """
    rng = np.random.default_rng(seed)
    canvas = Canvas(size_px)
    draw_background(canvas, rng)
    brightness = brightness_of(canvas, rng)  # before objects: grain and shadows stay where they are
    still = canvas.surface.copy()
    material = str(rng.choice(list(MATERIALS)))
    spectrum = specimen(material, rng)
    radius_px = rng.uniform(*RADIUS) * size_px
    middle = np.full(2, size_px / 2)
    outline = blob(size_px, middle, radius_px, rng)
    nowhere = np.zeros_like(outline)
    surfaces = []
    for _ in range(N_DISTRACTORS):
        other = metamer(spectrum, camera.rgb_response() * illuminant(), rng, STRENGTH)
        canvas.paint(nowhere, other, f"metamer of {material}")
        surfaces.append(len(canvas.spectra) - 1)
    canvas.paint(nowhere, spectrum, material)
    surfaces.append(len(canvas.spectra) - 1)  # the object comes last: it is never hidden
    spectra = lit_spectra(canvas)
    of_camera = spectra @ camera.response().T  # (S, C)
    of_companion = spectra @ companion_response().T  # (S, 3)
    paths = [_path(n_frames, size_px, radius_px, rng) for _ in surfaces]
    signals, companions, boxes = [], [], []
    for k in range(n_frames):
        surface = still.copy()
        for index, path in zip(surfaces, paths, strict=True):
            mask = _moved(outline, path[k] - middle)
            surface[mask] = index
        boxes.append(_box_of(mask))
        signals.append(exposed(of_camera, surface, brightness, rng))
        photo = exposed(of_companion, surface, brightness, rng)
        companions.append(companion_rgb(photo))
    return MovingObject(tuple(signals), tuple(companions), np.array(boxes))


def write_sequence(folder: Path, camera: DemoCamera, ending: str, sequence: MovingObject) -> None:
    """Frames 0001, 0002, ... in the camera's format, and the object's box in each, a line x, y, w, h per frame."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, (signal, companion) in enumerate(zip(sequence.signals, sequence.companions, strict=True)):
        camera.write(folder / f"{k + 1:04d}{ending}", signal, companion)
    lines = ["\t".join(map(str, box)) + "\n" for box in sequence.boxes_xywh]
    publish_bytes(folder / BOXES_FILE, "".join(lines).encode())


def _path(n_frames: int, size_px: int, radius_px: float, rng: np.random.Generator) -> np.ndarray:
    """(T, 2) centres x, y of something that moves straight on and is thrown back by the edges."""
    low, high = radius_px * 1.3, size_px - radius_px * 1.3
    start = rng.uniform(low, high, 2)
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    speed_px = rng.uniform(*SPEED) * size_px
    step = speed_px * direction
    straight = start + np.arange(n_frames)[:, None] * step  # (T, 2)
    span = high - low
    folded = np.abs((straight - low + span) % (2 * span) - span)  # a triangle wave between 0 and span
    return low + folded


def _moved(mask: np.ndarray, by_xy: np.ndarray) -> np.ndarray:
    """(H, W) bool mask shifted by whole pixels; it stays inside the frame."""
    columns, rows = np.round(by_xy).astype(int)
    return np.roll(mask, (rows, columns), axis=(0, 1))


def _box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x, y, w, h px."""
    rows, columns = np.nonzero(mask)
    x, y = int(columns.min()), int(rows.min())
    width = int(columns.max()) - x + 1
    height = int(rows.max()) - y + 1
    return x, y, width, height
