"""Generated scenes: objects of known material on a background, with shading, shadows, occlusion, nested parts and metamers."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hvlabel.demo.cameras import DemoCamera, companion_response, companion_rgb
from hvlabel.demo.materials import MATERIALS, illuminant, metamer

N_OBJECTS = (9, 13)  # per scene, before occlusion
N_SPECTRAL_ONLY = 3
PART_SHARE = 0.4  # of the objects carry a nested part
MIN_VISIBLE_PX = 80  # smaller visible remains are no ground truth
MIN_VISIBLE_SHARE = 0.4  # nor are objects hidden for more than the rest
PSF_SIGMA_PX = 0.6
METAMER = 255  # class of pixels whose spectrum belongs to no material
READ_NOISE, SHOT_NOISE = 0.003, 0.008  # share of full scale; times the square root of the signal


@dataclass(frozen=True)
class Instance:
    """One object of the ground truth.

    mask          : (H, W) bool, visible pixels, nested parts included
    material      : name of the (outer) material
    spectral_only : same RGB as its surround, another spectrum
    """

    mask: np.ndarray
    material: str
    spectral_only: bool


@dataclass(frozen=True)
class Scene:
    """What a camera sees of a generated scene.

    signal    : (C, H, W) float32, about [0, 1]
    companion : (H, W, 3) uint8 photograph of the same scene
    materials : (H, W) uint8 what each pixel is made of: index into MATERIALS, METAMER for spectral-only objects
    """

    signal: np.ndarray
    companion: np.ndarray
    materials: np.ndarray
    instances: tuple[Instance, ...]


def make_scene(camera: DemoCamera, size_px: int, seed: int) -> Scene:
    """The scene of a seed as this camera sees it; equal arguments give equal arrays."""
    rng = np.random.default_rng(seed)
    return _photograph(_laid_out(camera, size_px, rng), camera, rng)


@dataclass(frozen=True)
class SceneParts:
    """What a scene sends to a camera, before blur and noise: for renderers that make many cubes at once.

    spectra    : (S, L) float64 what each surface sends back, on GRID_NM
    surface    : (H, W) int32 index into them
    brightness : (H, W) float32 factor on the spectrum of a pixel
    """

    spectra: np.ndarray
    surface: np.ndarray
    brightness: np.ndarray
    instances: tuple[Instance, ...]


def scene_parts(camera: DemoCamera, size_px: int, seed: int) -> SceneParts:
    """The parts of `make_scene` of the same arguments."""
    rng = np.random.default_rng(seed)
    layout = _laid_out(camera, size_px, rng)
    return SceneParts(_lit_spectra(layout), layout.surface, _brightness(layout, rng), _visible(layout))


@dataclass(frozen=True)
class Photo:
    """An ordinary photograph of a generated scene in which everything can be seen.

    rgb       : (H, W, 3) uint8
    materials : (H, W) uint8 index into MATERIALS
    """

    rgb: np.ndarray
    materials: np.ndarray
    instances: tuple[Instance, ...]


def make_photo(size_px: int, seed: int) -> Photo:
    """The photograph of a seed, without spectral-only objects: scenes for RGB networks, an order faster than a cube."""
    rng = np.random.default_rng(seed)
    layout = _Layout(size_px, rng)
    _draw_background(layout, rng)
    _draw_objects(layout, rng)
    rgb = companion_rgb(
        _expose(_lit_spectra(layout) @ companion_response().T, layout.surface, _brightness(layout, rng), rng)
    )
    return Photo(rgb, _classes(layout), _visible(layout))


class _Layout:
    """A painter's canvas: per pixel the index of its spectrum, plus the objects drawn so far."""

    def __init__(self, size_px: int, rng: np.random.Generator) -> None:
        self.size_px = size_px
        self.rng = rng
        self.spectra: list[np.ndarray] = []
        self.names: list[str] = []
        self.grain_of: list[int] = []  # the surface whose texture this one has: itself, or its host for a metamer
        self.surface = np.zeros((size_px, size_px), np.int32)
        self.shading = np.ones((size_px, size_px), np.float32)
        self.objects: list[tuple[np.ndarray, np.ndarray, str, bool]] = []  # (drawn, visible, material, spectral-only)

    def cover(self, mask: np.ndarray) -> None:
        """Hide everything drawn so far under `mask`."""
        for _, visible, _, _ in self.objects:
            visible &= ~mask

    def paint(self, mask: np.ndarray, spectrum: np.ndarray, name: str, grain_of: int | None = None) -> None:
        """Give the masked pixels a new surface."""
        surface = len(self.spectra)
        self.spectra.append(spectrum)
        self.names.append(name)
        self.grain_of.append(surface if grain_of is None else grain_of)
        self.surface[mask] = surface


def _laid_out(camera: DemoCamera, size_px: int, rng: np.random.Generator) -> _Layout:
    layout = _Layout(size_px, rng)
    _draw_background(layout, rng)
    _draw_objects(layout, rng)
    _draw_spectral_only(layout, camera, rng)
    return layout


def _vary(name: str, rng: np.random.Generator) -> np.ndarray:
    """(L,) a specimen of a material: overall brightness and tilt differ from piece to piece."""
    base = MATERIALS[name]
    tilt = 1 + rng.normal(0, 0.04) * np.linspace(-1, 1, base.size)
    return np.clip(base * rng.uniform(0.85, 1.15) * tilt, 0.01, 0.99)


def _draw_background(layout: _Layout, rng: np.random.Generator) -> None:
    """Two or three grounds divided by wavy borders; grounds are no instances."""
    size = layout.size_px
    names = rng.choice(
        ["soil", "concrete", "dry grass", "asphalt", "leaf", "wood"], size=rng.integers(2, 4), replace=False
    )
    yy, xx = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, 2 * np.pi)
    along = xx * np.cos(angle) + yy * np.sin(angle)
    across = -xx * np.sin(angle) + yy * np.cos(angle)
    height = along + 0.06 * np.sin(across * rng.uniform(8, 16) + rng.uniform(0, 6))
    limits = np.quantile(height, np.linspace(0, 1, len(names) + 1)[1:-1] + rng.uniform(-0.08, 0.08))
    zone = np.digitize(height, np.atleast_1d(limits))
    for k, name in enumerate(names):
        layout.paint(zone == k, _vary(str(name), rng), str(name))


def _draw_objects(layout: _Layout, rng: np.random.Generator) -> None:
    size = layout.size_px
    n_objects = int(rng.integers(*N_OBJECTS, endpoint=True))
    radii = (
        np.sort(rng.uniform(0.05, 0.15, n_objects))[::-1] * size
    )  # large ones first, so that small ones stay visible
    for radius_px in radii:
        centre = rng.uniform(0.06 * size, 0.94 * size, 2)
        mask = _blob(size, centre, radius_px, rng)
        under = layout.names[int(layout.surface[tuple(np.clip(centre[::-1].astype(int), 0, size - 1))])]
        name = str(rng.choice([m for m in MATERIALS if m != under]))
        layout.cover(mask)
        layout.paint(mask, _vary(name, rng), name)
        _shade(layout.shading, mask, centre, radius_px, rng)
        layout.objects.append((mask, mask.copy(), name, False))
        if rng.random() < PART_SHARE and radius_px > 0.06 * size:
            part = (
                _blob(size, centre + rng.normal(0, 0.15 * radius_px, 2), radius_px * rng.uniform(0.35, 0.5), rng) & mask
            )
            part_name = str(rng.choice([m for m in MATERIALS if m != name]))
            layout.paint(part, _vary(part_name, rng), part_name)
            layout.objects.append((part, part.copy(), part_name, False))


def _draw_spectral_only(layout: _Layout, camera: DemoCamera, rng: np.random.Generator) -> None:
    """Patches inside one surface whose spectrum is a metamer of it: the RGB rendering does not show them."""
    size = layout.size_px
    light = illuminant()
    placed = 0
    for radius_px in np.linspace(0.085, 0.045, 400) * size:  # ever smaller until enough of them found room
        centre = rng.uniform(radius_px, size - radius_px, 2)
        mask = _blob(size, centre, radius_px, rng)
        hosts = np.unique(layout.surface[cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0])
        host = int(hosts[0])
        if len(hosts) != 1 or mask.sum() < MIN_VISIBLE_PX or layout.names[host].startswith("metamer"):
            continue
        spectrum = metamer(layout.spectra[host], camera.rgb_response() * light, rng)
        layout.paint(mask, spectrum, f"metamer of {layout.names[host]}", grain_of=host)
        layout.objects.append((mask, mask.copy(), f"metamer of {layout.names[host]}", True))
        placed += 1
        if placed == N_SPECTRAL_ONLY:
            return


def _photograph(layout: _Layout, camera: DemoCamera, rng: np.random.Generator) -> Scene:
    spectra, brightness = _lit_spectra(layout), _brightness(layout, rng)
    signal = _expose(spectra @ camera.response().T, layout.surface, brightness, rng)
    photo = _expose(spectra @ companion_response().T, layout.surface, brightness, rng)
    return Scene(signal, companion_rgb(photo), _classes(layout), _visible(layout))


def _lit_spectra(layout: _Layout) -> np.ndarray:
    """(S, L) what each surface sends back."""
    return np.stack(layout.spectra) * illuminant()


def _brightness(layout: _Layout, rng: np.random.Generator) -> np.ndarray:
    """(H, W) shape, grain and shadows."""
    return layout.shading * _texture(layout, rng) * _shadows(layout.size_px, rng)


def _classes(layout: _Layout) -> np.ndarray:
    """(H, W) uint8 material class."""
    classes = np.array([list(MATERIALS).index(n) if n in MATERIALS else METAMER for n in layout.names], np.uint8)
    return classes[layout.surface]


def _visible(layout: _Layout) -> tuple[Instance, ...]:
    """Objects of which enough can be seen."""
    return tuple(
        Instance(visible, name, spectral_only)
        for drawn, visible, name, spectral_only in layout.objects
        if visible.sum() >= max(MIN_VISIBLE_PX, MIN_VISIBLE_SHARE * drawn.sum())
    )


def _expose(
    per_surface: np.ndarray, surface: np.ndarray, brightness: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(C, H, W) float32 noisy, slightly blurred signal of (S, C) surface signals."""
    clean = np.take(per_surface.T.astype(np.float32), surface, axis=1) * brightness  # (C, H, W)
    blurred = np.stack([cv2.GaussianBlur(band, (0, 0), PSF_SIGMA_PX) for band in clean])
    sigma = READ_NOISE + SHOT_NOISE * np.sqrt(np.clip(blurred, 0, None))
    return np.clip(blurred + sigma * rng.standard_normal(blurred.shape, dtype=np.float32), 0, None)


def _texture(layout: _Layout, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 around 1: fine and coarse grain whose strength differs from surface to surface."""
    size = layout.size_px
    strength = rng.uniform(0.01, 0.07, len(layout.names)).astype(np.float32)[layout.grain_of]
    grain = np.zeros((size, size), np.float32)
    for sigma_px in (0.7, 2.5):
        noise = cv2.GaussianBlur(rng.standard_normal((size, size), dtype=np.float32), (0, 0), sigma_px)
        grain += noise / noise.std() / 2**0.5
    return np.exp(grain * strength[layout.surface])


def _shadows(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in (0, 1]: two or three soft-edged shadows and a gentle fall-off of the light."""
    light = np.ones((size_px, size_px), np.float32)
    for _ in range(int(rng.integers(2, 4))):
        shade = _blob(size_px, rng.uniform(0, size_px, 2), rng.uniform(0.12, 0.28) * size_px, rng).astype(np.float32)
        light *= 1 - rng.uniform(0.3, 0.5) * cv2.GaussianBlur(shade, (0, 0), rng.uniform(1.0, 4.0))
    yy, xx = np.mgrid[:size_px, :size_px] / size_px - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    return light * (1 + 0.25 * (xx * np.cos(angle) + yy * np.sin(angle))).astype(np.float32)


def _shade(
    shading: np.ndarray, mask: np.ndarray, centre: np.ndarray, radius_px: float, rng: np.random.Generator
) -> None:
    """Shade (H, W) float32 where the mask (H, W) bool is: a slightly curved object around centre (x, y) px, lit from one side."""
    yy, xx = np.nonzero(mask)
    angle = rng.uniform(0, 2 * np.pi)
    tilt = ((xx - centre[0]) * np.cos(angle) + (yy - centre[1]) * np.sin(angle)) / radius_px
    shading[yy, xx] = 1 + rng.uniform(0.0, 0.15) * np.clip(tilt, -1, 1)


def _blob(size_px: int, centre: np.ndarray, radius_px: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool ellipse, rounded polygon, rectangle or wavy outline around a centre (x, y)."""
    kind = rng.integers(4)
    stretch, turn = rng.uniform(0.65, 1.0), rng.uniform(0, np.pi)
    n = {0: 72, 1: int(rng.integers(3, 7)), 2: 4, 3: 72}[int(kind)]
    theta = np.linspace(0, 2 * np.pi, n, endpoint=False)
    reach = np.ones(n)
    if kind == 1:
        reach = rng.uniform(0.8, 1.1, n)
    elif kind == 2:
        theta = theta + np.pi / 4
        reach = np.full(n, 1.15)
    elif kind == 3:
        reach = 1 + 0.22 * np.sin(theta * rng.integers(2, 6) + rng.uniform(0, 6))
    x, y = reach * np.cos(theta), stretch * reach * np.sin(theta)
    points = (
        np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1) * radius_px
        + centre
    )
    canvas = np.zeros((size_px, size_px), np.uint8)
    cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 1, shift=4)
    return canvas.astype(bool)
