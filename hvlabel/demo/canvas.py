"""What lies in a generated scene and how it is lit, before any camera sees it: surfaces, objects, shading."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hvlabel.demo.materials import MATERIALS

N_OBJECTS = (9, 13)  # per scene, before occlusion
RADIUS = (0.05, 0.15)  # of objects; this and all lengths below are shares of the scene's side
INSIDE = (0.06, 0.94)  # where the centres of objects lie
GROUNDS = ["soil", "concrete", "dry grass", "asphalt", "leaf", "wood"]
PART_SHARE = 0.4  # of the objects carry a nested part
LEAST_WITH_PART = 0.06  # radius
OUTLINE_POINTS = 72  # of round and wavy blobs
SUBPIXEL_BITS = 4  # corners are drawn to a sixteenth of a pixel


@dataclass(frozen=True)
class Drawn:
    """One object as it was drawn.

    mask          : (H, W) bool, all of it
    visible       : (H, W) bool, what later objects left of it, changed in place
    material      : name of the (outer) material
    spectral_only : same RGB as its surround, another spectrum
    """

    mask: np.ndarray
    visible: np.ndarray
    material: str
    spectral_only: bool


class Canvas:
    """A painter's canvas: per pixel the index of its surface, plus the objects drawn so far.

    spectra  : (L,) reflectance of each surface; names: of their materials
    grain_of : the surface whose texture each one has: itself, or its host for a metamer
    surface  : (H, W) int32, index of the surface that is seen
    shading  : (H, W) float32, how much light the shape of an object catches
    """

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px
        self.spectra: list[np.ndarray] = []
        self.names: list[str] = []
        self.grain_of: list[int] = []
        self.surface = np.zeros((size_px, size_px), np.int32)
        self.shading = np.ones((size_px, size_px), np.float32)
        self.objects: list[Drawn] = []

    def cover(self, mask: np.ndarray) -> None:
        """Hide everything drawn so far under `mask`."""
        for drawn in self.objects:
            np.logical_and(drawn.visible, ~mask, out=drawn.visible)

    def paint(self, mask: np.ndarray, spectrum: np.ndarray, name: str, grain_of: int | None = None) -> None:
        """Give the masked pixels a new surface."""
        surface = len(self.spectra)
        self.spectra.append(spectrum)
        self.names.append(name)
        self.grain_of.append(surface if grain_of is None else grain_of)
        self.surface[mask] = surface

    def add(self, mask: np.ndarray, material: str, *, spectral_only: bool = False) -> None:
        """Count the masked pixels as an object."""
        self.objects.append(Drawn(mask, mask.copy(), material, spectral_only))


def draw_background(canvas: Canvas, rng: np.random.Generator) -> None:
    """Two or three grounds divided by wavy borders; grounds are no instances."""
    size = canvas.size_px
    names = rng.choice(GROUNDS, size=rng.integers(2, 4), replace=False)
    yy, xx = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, 2 * np.pi)
    along = xx * np.cos(angle) + yy * np.sin(angle)
    across = -xx * np.sin(angle) + yy * np.cos(angle)
    waves, phase = rng.uniform(8, 16), rng.uniform(0, 6)
    height = along + 0.06 * np.sin(across * waves + phase)
    # cut at quantiles: every ground gets about the same share
    shares = np.linspace(0, 1, len(names) + 1)[1:-1]
    shift = rng.uniform(-0.08, 0.08)
    limits = np.quantile(height, shares + shift)
    zone = np.digitize(height, np.atleast_1d(limits))
    for k, name in enumerate(names):
        canvas.paint(zone == k, specimen(str(name), rng), str(name))


def draw_objects(canvas: Canvas, rng: np.random.Generator) -> None:
    """Objects of a material unlike the one under their centre, some with a nested part."""
    size = canvas.size_px
    n_objects = int(rng.integers(*N_OBJECTS, endpoint=True))
    # large ones first, so that small ones stay visible
    rising = np.sort(rng.uniform(*RADIUS, n_objects))
    radii = rising[::-1] * size
    for radius_px in radii:
        centre = rng.uniform(INSIDE[0] * size, INSIDE[1] * size, 2)  # (x, y) px
        mask = blob(size, centre, radius_px, rng)
        column, row = np.clip(centre.astype(int), 0, size - 1)
        under = canvas.names[int(canvas.surface[row, column])]
        name = _other_than(under, rng)
        canvas.cover(mask)
        canvas.paint(mask, specimen(name, rng), name)
        _shade(canvas.shading, mask, centre, radius_px, rng)
        canvas.add(mask, name)
        if rng.random() < PART_SHARE and radius_px > LEAST_WITH_PART * size:
            _draw_part(canvas, mask, name, centre, radius_px, rng)


def specimen(name: str, rng: np.random.Generator) -> np.ndarray:
    """(L,) a specimen of a material: overall brightness and tilt differ from piece to piece."""
    base = MATERIALS[name]
    slope = rng.normal(0, 0.04)
    tilt = 1 + slope * np.linspace(-1, 1, base.size)
    brightness = rng.uniform(0.85, 1.15)
    return np.clip(base * brightness * tilt, 0.01, 0.99)  # no surface is black or reflects all


def blob(size_px: int, centre: np.ndarray, radius_px: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool ellipse, rounded polygon, rectangle or wavy outline around a centre (x, y)."""
    kind = int(rng.integers(4))
    stretch = rng.uniform(0.65, 1.0)
    turn = rng.uniform(0, np.pi)
    # the number is drawn for every kind: what a seed gives must not depend on the kind
    n_points = [OUTLINE_POINTS, int(rng.integers(3, 7)), 4, OUTLINE_POINTS][kind]
    theta = np.linspace(0, 2 * np.pi, n_points, endpoint=False)
    reach = np.ones(n_points)  # distance from the centre, in radii
    if kind == 1:
        reach = rng.uniform(0.8, 1.1, n_points)
    elif kind == 2:
        theta = theta + np.pi / 4
        reach = np.full(n_points, 1.15)  # corners reach further, so that the area is about the same
    elif kind == 3:
        waves, phase = rng.integers(2, 6), rng.uniform(0, 6)  # whole waves: the outline closes
        reach = 1 + 0.22 * np.sin(theta * waves + phase)
    x = reach * np.cos(theta)
    y = stretch * reach * np.sin(theta)
    turned_x = x * np.cos(turn) - y * np.sin(turn)
    turned_y = x * np.sin(turn) + y * np.cos(turn)
    turned = np.stack([turned_x, turned_y], axis=1)  # (n_points, 2)
    corners_xy = turned * radius_px + centre
    canvas = np.zeros((size_px, size_px), np.uint8)
    fixed_point = np.round(corners_xy * (1 << SUBPIXEL_BITS))  # OpenCV takes whole numbers only
    cv2.fillPoly(canvas, [fixed_point.astype(np.int32)], 1, shift=SUBPIXEL_BITS)
    return canvas.astype(bool)


def _draw_part(
    canvas: Canvas, mask: np.ndarray, name: str, centre: np.ndarray, radius_px: float, rng: np.random.Generator
) -> None:
    """A part of another material inside an object."""
    part_centre = centre + rng.normal(0, 0.15 * radius_px, 2)
    part_radius_px = radius_px * rng.uniform(0.35, 0.5)
    part = blob(canvas.size_px, part_centre, part_radius_px, rng) & mask
    part_name = _other_than(name, rng)
    canvas.paint(part, specimen(part_name, rng), part_name)
    canvas.add(part, part_name)


def _other_than(name: str, rng: np.random.Generator) -> str:
    """Any material but one."""
    others = [material for material in MATERIALS if material != name]
    return str(rng.choice(others))


def _shade(
    shading: np.ndarray, mask: np.ndarray, centre: np.ndarray, radius_px: float, rng: np.random.Generator
) -> None:
    """Shade the pixels of a slightly curved object, lit from one side.

    shading : (H, W) float32, changed in place
    mask    : (H, W) bool
    centre  : (x, y) px
    """
    yy, xx = np.nonzero(mask)
    angle = rng.uniform(0, 2 * np.pi)
    across = (xx - centre[0]) * np.cos(angle)
    down = (yy - centre[1]) * np.sin(angle)
    tilt = (across + down) / radius_px
    strength = rng.uniform(0.0, 0.15)
    shading[yy, xx] = 1 + strength * np.clip(tilt, -1, 1)  # corners lie beyond the radius
