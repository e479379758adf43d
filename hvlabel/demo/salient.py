"""Generated scenes in which one thing is salient, and only its spectrum shows it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hvlabel.demo.cameras import DemoCamera, companion_response, companion_rgb
from hvlabel.demo.canvas import Canvas, blob, draw_background
from hvlabel.demo.light import brightness_of, exposed, lit_spectra
from hvlabel.demo.materials import illuminant, metamer

RADII = (0.22, 0.06)  # of the object, share of the side: the largest that fits into one surface is taken
TRIES = 400
MARGIN_PX = 5  # side of the square around each pixel of the object that has to lie in one surface
STRENGTH = 0.3  # largest change of its reflectance that is aimed at: it shall be salient, not just different


@dataclass(frozen=True)
class SalientScene:
    """What a camera sees.

    signal    : (C, H, W) float32, about [0, 1]
    companion : (H, W, 3) uint8 photograph, which does not show the object
    truth     : (H, W) bool, the object
    """

    signal: np.ndarray
    companion: np.ndarray
    truth: np.ndarray


def salient_scene(camera: DemoCamera, size_px: int, seed: int) -> SalientScene:
    """The scene of a seed: two or three grounds, and one metamer of the ground it lies on."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(size_px)
    draw_background(canvas, rng)
    truth, host = _place(canvas, rng)
    spectrum = metamer(canvas.spectra[host], camera.rgb_response() * illuminant(), rng, STRENGTH)
    canvas.paint(truth, spectrum, "salient", grain_of=host)
    spectra = lit_spectra(canvas)
    brightness = brightness_of(canvas, rng)
    of_camera = spectra @ camera.response().T  # (S, C)
    of_companion = spectra @ companion_response().T  # (S, 3)
    signal = exposed(of_camera, canvas.surface, brightness, rng)
    photo = exposed(of_companion, canvas.surface, brightness, rng)
    return SalientScene(signal, companion_rgb(photo), truth)


def _place(canvas: Canvas, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """(H, W) bool of an object inside one surface, and the index of that surface."""
    size = canvas.size_px
    around = np.ones((MARGIN_PX, MARGIN_PX), np.uint8)
    mask = np.zeros((size, size), bool)
    for radius_px in np.linspace(*RADII, TRIES) * size:
        centre = rng.uniform(radius_px, size - radius_px, 2)
        mask = blob(size, centre, radius_px, rng)
        neighbourhood = cv2.dilate(mask.astype(np.uint8), around) > 0
        hosts = np.unique(canvas.surface[neighbourhood])
        if len(hosts) == 1:
            break
    # where nothing fits, which is rare, the last and smallest lies across a border
    return mask, int(canvas.surface[mask][0])
