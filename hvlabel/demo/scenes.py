"""Generated scenes: objects of known material, with shading, shadows, occlusion, nested parts and metamers."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hvlabel.demo.cameras import DemoCamera, companion_response, companion_rgb
from hvlabel.demo.canvas import Canvas, blob, draw_background, draw_objects
from hvlabel.demo.light import brightness_of, exposed, lit_spectra
from hvlabel.demo.materials import MATERIALS, illuminant, metamer

N_SPECTRAL_ONLY = 3
SPECTRAL_ONLY_RADII = (0.085, 0.045)  # share of the side, largest and smallest
TRIES = 400
FREE_PX = 9  # side of the square around each pixel of a metamer that has to lie in one surface
MIN_VISIBLE_PX = 80  # smaller visible remains are no ground truth
MIN_VISIBLE_SHARE = 0.4  # nor are objects hidden for more than the rest
METAMER = 255  # class of pixels whose spectrum belongs to no material
METAMER_NAME = "metamer of "  # and the material that it looks like


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


@dataclass(frozen=True)
class Photo:
    """An ordinary photograph of a generated scene in which everything can be seen.

    rgb       : (H, W, 3) uint8
    materials : (H, W) uint8 index into MATERIALS
    """

    rgb: np.ndarray
    materials: np.ndarray
    instances: tuple[Instance, ...]


def make_scene(camera: DemoCamera, size_px: int, seed: int) -> Scene:
    """The scene of a seed as this camera sees it; equal arguments give equal arrays."""
    rng = np.random.default_rng(seed)
    canvas = _drawn(size_px, rng)
    _draw_spectral_only(canvas, camera, rng)
    spectra = lit_spectra(canvas)
    brightness = brightness_of(canvas, rng)
    of_camera = spectra @ camera.response().T  # (S, C)
    of_companion = spectra @ companion_response().T  # (S, 3)
    signal = exposed(of_camera, canvas.surface, brightness, rng)
    photo = exposed(of_companion, canvas.surface, brightness, rng)
    return Scene(signal, companion_rgb(photo), _classes(canvas), _visible(canvas))


def scene_parts(camera: DemoCamera, size_px: int, seed: int) -> SceneParts:
    """The parts of `make_scene` of the same arguments."""
    rng = np.random.default_rng(seed)
    canvas = _drawn(size_px, rng)
    _draw_spectral_only(canvas, camera, rng)
    brightness = brightness_of(canvas, rng)  # drawn where make_scene draws it: the same scene
    return SceneParts(lit_spectra(canvas), canvas.surface, brightness, _visible(canvas))


def make_photo(size_px: int, seed: int) -> Photo:
    """The photograph of a seed, without spectral-only objects: scenes for RGB networks, an order faster than a cube."""
    rng = np.random.default_rng(seed)
    canvas = _drawn(size_px, rng)
    spectra = lit_spectra(canvas)
    brightness = brightness_of(canvas, rng)
    of_companion = spectra @ companion_response().T  # (S, 3)
    photo = exposed(of_companion, canvas.surface, brightness, rng)
    return Photo(companion_rgb(photo), _classes(canvas), _visible(canvas))


def _drawn(size_px: int, rng: np.random.Generator) -> Canvas:
    """Grounds and objects."""
    canvas = Canvas(size_px)
    draw_background(canvas, rng)
    draw_objects(canvas, rng)
    return canvas


def _draw_spectral_only(canvas: Canvas, camera: DemoCamera, rng: np.random.Generator) -> None:
    """Patches inside one surface whose spectrum is a metamer of it: the RGB rendering does not show them."""
    size = canvas.size_px
    light = illuminant()
    around = np.ones((FREE_PX, FREE_PX), np.uint8)
    n_placed = 0
    for radius_px in np.linspace(*SPECTRAL_ONLY_RADII, TRIES) * size:  # ever smaller until enough of them have room
        centre = rng.uniform(radius_px, size - radius_px, 2)
        mask = blob(size, centre, radius_px, rng)
        neighbourhood = cv2.dilate(mask.astype(np.uint8), around) > 0
        hosts = np.unique(canvas.surface[neighbourhood])
        host = int(hosts[0])
        host_name = canvas.names[host]
        if len(hosts) != 1 or mask.sum() < MIN_VISIBLE_PX or host_name.startswith(METAMER_NAME):
            continue
        spectrum = metamer(canvas.spectra[host], camera.rgb_response() * light, rng)
        name = METAMER_NAME + host_name
        canvas.paint(mask, spectrum, name, grain_of=host)
        canvas.add(mask, name, spectral_only=True)
        n_placed += 1
        if n_placed == N_SPECTRAL_ONLY:
            return


def _classes(canvas: Canvas) -> np.ndarray:
    """(H, W) uint8 material class."""
    index_of = {name: k for k, name in enumerate(MATERIALS)}
    of_surfaces = [index_of.get(name, METAMER) for name in canvas.names]
    classes = np.array(of_surfaces, np.uint8)  # (S,)
    return classes[canvas.surface]


def _visible(canvas: Canvas) -> tuple[Instance, ...]:
    """Objects of which enough can be seen."""
    instances = []
    for drawn in canvas.objects:
        enough_px = max(MIN_VISIBLE_PX, MIN_VISIBLE_SHARE * drawn.mask.sum())
        if drawn.visible.sum() >= enough_px:
            instances.append(Instance(drawn.visible, drawn.material, drawn.spectral_only))
    return tuple(instances)
