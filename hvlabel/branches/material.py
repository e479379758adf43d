"""material: masks on the full spectrum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from hvlabel.branches.pictures import confirmed, scored
from hvlabel.branches.regions import multiscale_regions
from hvlabel.config import MaterialSettings
from hvlabel.cube import Cube
from hvlabel.cube.render import as_picture, false_colour
from hvlabel.masks import MaskSet, best_masks, ranked

if TYPE_CHECKING:
    from hvlabel.branches.points import PromptModel

MAX_BANDS = 512  # more than any camera has; spectrometers in a laboratory have two thousand
DARK = 1e-12  # share of the brightest pixel below which a spectrum has no direction
NOISE_RIDGE = 1e-3  # share of the mean noise variance added to its diagonal, so that dead bands cannot blow up


def run(
    cube: Cube,
    settings: MaterialSettings,
    model: PromptModel | Callable[[Sequence[float], float], PromptModel] | None = None,
) -> MaskSet:
    """Masks of the cube's spectra, best first.

    model : of backend sam, the network; of backend hyperfree, a function from a camera's wavelengths (nm) and its ground
            sampling distance (m) to its network
    """
    if model is None:
        regions = multiscale_regions(
            spectral_components(cube.live_values(), settings.n_components, cube.valid), settings.regions, "material"
        )
        return ranked(regions, cube.height_px, cube.width_px)
    from hvlabel.branches.generator import generate_masks  # only here: torch takes seconds to import

    if settings.backend == "sam":
        per_composite = []
        for components, picture in composites(cube.live_values(), settings.n_composites, cube.valid):
            made = generate_masks(cast("PromptModel", model), picture, settings.generator, "material")
            extra = {"composite": list(components)}
            per_composite.append([scored(replace(m, extra=extra)) for m in made])
        found = best_masks(confirmed(per_composite, settings.link_iou), settings.nms_iou, settings.max_masks)
        return ranked(found, cube.height_px, cube.width_px)
    assert settings.hyperfree is not None  # the settings' validator
    of_camera = cast("Callable[[Sequence[float], float], PromptModel]", model)
    camera = of_camera(cube.live_wavelengths_nm.tolist(), settings.hyperfree.gsd_m)
    found = generate_masks(camera, cube.live_values().transpose(1, 2, 0), settings.generator, "material")
    return ranked(found, cube.height_px, cube.width_px)


def composites(
    values: np.ndarray, n_composites: int, valid: np.ndarray | None = None
) -> list[tuple[tuple[int, int, int], np.ndarray]]:
    """Up to n_composites false-colour pictures of a cube's spectral components, the strongest three first.

    values : (C, H, W) float32, any unit
    valid  : (H, W) bool, pixels with values; the others are black. None: all
    Each comes with its components, counted from 1 as (red, green, blue), and as (H, W, 3) uint8. The last one shares
    components with the one before where they do not suffice for three of its own.
    """
    components = spectral_components(values, 3 * n_composites, valid)
    n_components = components.shape[2]
    pictures: list[tuple[tuple[int, int, int], np.ndarray]] = []
    for first in range(0, n_components, 3):
        start = max(0, min(first, n_components - 3))
        red, green, blue = (min(start + k, n_components - 1) for k in range(3))
        planes = np.stack([components[:, :, k] for k in (red, green, blue)])
        pictures.append(((red + 1, green + 1, blue + 1), as_picture(false_colour(planes, valid=valid))))
    return pictures


def spectral_components(values: np.ndarray, n_components: int, valid: np.ndarray | None = None) -> np.ndarray:
    """(H, W, D) float32 noise-whitened components of the spectral shape, about [0, 1], D <= n_components.

    values : (C, H, W) float32, any unit, finite; of more than MAX_BANDS bands, neighbours are averaged
    valid  : (H, W) bool, pixels that the components are made from; the others get the middle value. None: all
    Spectra are scaled to unit length, so that shading and shadows drop out; then the minimum noise fraction transform
    (Green et al. 1988) with the noise estimated from the quieter half of the neighbour differences. A component's
    weight is the fourth root of its variance ratio: full whitening would lift noise to the level of the materials,
    no whitening would let one material hide the others. A single band has no shape: its values count.
    """
    n_bands, height, width = values.shape
    spectra = _fewer_bands(values.reshape(n_bands, -1)).astype(np.float64)
    n_bands = len(spectra)
    inside = slice(None) if valid is None else valid.ravel()
    if n_bands > 1:
        length = np.linalg.norm(spectra, axis=0)
        spectra /= np.maximum(length, max(DARK * float(length.max()), np.finfo(np.float64).tiny))
    else:
        spectra /= max(float(np.abs(spectra[:, inside]).max()), np.finfo(np.float64).tiny)
    spectra -= spectra[:, inside].mean(axis=1, keepdims=True)
    noise = _noise_covariance(spectra.reshape(n_bands, height, width), valid)
    noise_variance, noise_axes = np.linalg.eigh(noise)
    whitened = (noise_axes / np.sqrt(noise_variance)).T @ spectra
    known = whitened[:, inside]
    ratio, axes = np.linalg.eigh(known @ known.T / known.shape[1])
    ratio, axes = ratio[::-1][:n_components], axes[:, ::-1][:, :n_components]
    components = (axes.T @ whitened) / np.maximum(ratio, 1e-12)[:, None] ** 0.25
    spread = max(float(np.percentile(np.abs(components[:, inside]), 99)), 1e-12)
    if valid is not None:
        components[:, ~valid.ravel()] = 0
    return np.ascontiguousarray(
        (components / (2 * 2**0.5 * spread) + 0.5).T.reshape(height, width, -1), dtype=np.float32
    )


def _fewer_bands(spectra: np.ndarray) -> np.ndarray:
    """(C, N) spectra, of more than MAX_BANDS bands the means of equally many neighbours: memory and time grow with them."""
    n_bands = len(spectra)
    if n_bands <= MAX_BANDS:
        return spectra
    together = -(-n_bands // MAX_BANDS)
    starts = np.arange(0, n_bands, together)
    sums = np.add.reduceat(spectra, starts, axis=0, dtype=np.float64)
    return sums / np.diff([*starts, n_bands])[:, None]


def _noise_covariance(image: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """(C, C) noise covariance of a (C, H, W) image, half that of neighbour differences without the stronger ones (edges).

    valid : (H, W) bool, pixels that count; None: all
    """
    n_bands = len(image)
    across, down = np.diff(image, axis=2).reshape(n_bands, -1), np.diff(image, axis=1).reshape(n_bands, -1)
    if valid is not None:
        across = across[:, (valid[:, 1:] & valid[:, :-1]).ravel()]
        down = down[:, (valid[1:] & valid[:-1]).ravel()]
    differences = np.concatenate([across, down], axis=1)
    if not differences.size:
        return np.eye(n_bands)
    size = np.abs(differences).sum(axis=0)
    quiet = differences[:, size <= np.median(size)]
    covariance = quiet @ quiet.T / quiet.shape[1] / 2
    ridge = NOISE_RIDGE * np.trace(covariance) / n_bands
    return covariance + max(ridge, 1e-12) * np.eye(n_bands)
