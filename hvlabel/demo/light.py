"""What light, lens and sensor make of a generated scene."""

from __future__ import annotations

import cv2
import numpy as np

from hvlabel.demo.canvas import Canvas, blob
from hvlabel.demo.materials import illuminant

PSF_SIGMA_PX = 0.6
READ_NOISE, SHOT_NOISE = 0.003, 0.008  # share of full scale; times the square root of the signal
GRAIN_SIGMAS_PX = (0.7, 2.5)  # fine and coarse


def lit_spectra(canvas: Canvas) -> np.ndarray:
    """(S, L) what each surface sends back."""
    return np.stack(canvas.spectra) * illuminant()


def brightness_of(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """(H, W) shape, grain and shadows."""
    return canvas.shading * _texture(canvas, rng) * _shadows(canvas.size_px, rng)


def exposed(
    per_surface: np.ndarray, surface: np.ndarray, brightness: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(C, H, W) float32 noisy, slightly blurred signal.

    per_surface : (S, C) signal of each surface in full light
    surface     : (H, W) index of the surface that is seen
    brightness  : (H, W)
    """
    of_surfaces = per_surface.T.astype(np.float32)  # (C, S)
    clean = np.take(of_surfaces, surface, axis=1) * brightness  # (C, H, W)
    blurred = np.stack([cv2.GaussianBlur(band, (0, 0), PSF_SIGMA_PX) for band in clean])
    sigma = READ_NOISE + SHOT_NOISE * np.sqrt(np.clip(blurred, 0, None))
    noise = rng.standard_normal(blurred.shape, dtype=np.float32)
    return np.clip(blurred + sigma * noise, 0, None)


def _texture(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 around 1: fine and coarse grain whose strength differs from surface to surface."""
    size = canvas.size_px
    strengths = rng.uniform(0.01, 0.07, len(canvas.names)).astype(np.float32)
    strength = strengths[canvas.grain_of]  # a metamer has its host's: a texture of its own would show it
    grain = np.zeros((size, size), np.float32)
    for sigma_px in GRAIN_SIGMAS_PX:
        white = rng.standard_normal((size, size), dtype=np.float32)
        noise = cv2.GaussianBlur(white, (0, 0), sigma_px)  # (0, 0): as large as the deviation needs
        grain += noise / noise.std() / 2**0.5  # the sum of both has a deviation of about 1
    return np.exp(grain * strength[canvas.surface])


def _shadows(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in (0, 1]: two or three soft-edged shadows and a gentle fall-off of the light."""
    light = np.ones((size_px, size_px), np.float32)
    for _ in range(int(rng.integers(2, 4))):
        centre = rng.uniform(0, size_px, 2)
        radius_px = rng.uniform(0.12, 0.28) * size_px
        shade = blob(size_px, centre, radius_px, rng).astype(np.float32)
        depth = rng.uniform(0.3, 0.5)
        softness_px = rng.uniform(1.0, 4.0)
        soft = cv2.GaussianBlur(shade, (0, 0), softness_px)
        light *= 1 - depth * soft
    yy, xx = np.mgrid[:size_px, :size_px] / size_px - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    along = xx * np.cos(angle) + yy * np.sin(angle)  # at most 0.71: the light stays above 0
    fall_off = 1 + 0.25 * along
    return light * fall_off.astype(np.float32)
