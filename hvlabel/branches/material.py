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
            spectral_components(cube.values(), settings.n_components), settings.regions, "material"
        )
        return ranked(regions, cube.height_px, cube.width_px)
    from hvlabel.branches.generator import generate_masks  # only here: torch takes seconds to import

    if settings.backend == "sam":
        per_composite = []
        for components, picture in composites(cube.values(), settings.n_composites):
            made = generate_masks(cast("PromptModel", model), picture, settings.generator, "material")
            extra = {"composite": list(components)}
            per_composite.append([scored(replace(m, extra=extra)) for m in made])
        found = best_masks(confirmed(per_composite, settings.link_iou), settings.nms_iou, settings.max_masks)
        return ranked(found, cube.height_px, cube.width_px)
    assert settings.hyperfree is not None  # the settings' validator
    of_camera = cast("Callable[[Sequence[float], float], PromptModel]", model)
    camera = of_camera(cube.wavelengths_nm.tolist(), settings.hyperfree.gsd_m)
    found = generate_masks(camera, cube.values().transpose(1, 2, 0), settings.generator, "material")
    return ranked(found, cube.height_px, cube.width_px)


def composites(values: np.ndarray, n_composites: int) -> list[tuple[tuple[int, int, int], np.ndarray]]:
    """Up to n_composites false-colour pictures of a cube's spectral components, the strongest three first.

    values : (C, H, W) float32, any unit
    Each comes with its components, counted from 1 as (red, green, blue), and as (H, W, 3) uint8. The last one shares
    components with the one before where they do not suffice for three of its own.
    """
    components = spectral_components(values, 3 * n_composites)
    n_components = components.shape[2]
    pictures: list[tuple[tuple[int, int, int], np.ndarray]] = []
    for first in range(0, n_components, 3):
        start = max(0, min(first, n_components - 3))
        red, green, blue = (min(start + k, n_components - 1) for k in range(3))
        planes = np.stack([components[:, :, k] for k in (red, green, blue)])
        pictures.append(((red + 1, green + 1, blue + 1), as_picture(false_colour(planes))))
    return pictures


def spectral_components(values: np.ndarray, n_components: int) -> np.ndarray:
    """(H, W, D) float32 noise-whitened components of the spectral shape, about [0, 1], D <= n_components.

    values : (C, H, W) float32, any unit
    Spectra are scaled to unit length, so that shading and shadows drop out; then the minimum noise fraction transform
    (Green et al. 1988) with the noise estimated from the quieter half of the neighbour differences. A component's
    weight is the fourth root of its variance ratio: full whitening would lift noise to the level of the materials,
    no whitening would let one material hide the others.
    """
    n_bands, height, width = values.shape
    spectra = values.reshape(n_bands, -1).astype(np.float64)
    spectra /= np.maximum(np.linalg.norm(spectra, axis=0), 1e-12)
    spectra -= spectra.mean(axis=1, keepdims=True)
    noise_variance, noise_axes = np.linalg.eigh(_noise_covariance(spectra.reshape(n_bands, height, width)))
    whitened = (noise_axes / np.sqrt(noise_variance)).T @ spectra
    ratio, axes = np.linalg.eigh(whitened @ whitened.T / whitened.shape[1])
    ratio, axes = ratio[::-1][:n_components], axes[:, ::-1][:, :n_components]
    components = (axes.T @ whitened) / np.maximum(ratio, 1e-12)[:, None] ** 0.25
    spread = max(float(np.percentile(np.abs(components), 99)), 1e-12)
    return np.ascontiguousarray(
        (components / (2 * 2**0.5 * spread) + 0.5).T.reshape(height, width, -1), dtype=np.float32
    )


def _noise_covariance(image: np.ndarray) -> np.ndarray:
    """(C, C) noise covariance of a (C, H, W) image, half that of neighbour differences without the stronger ones (edges)."""
    n_bands = len(image)
    differences = np.concatenate(
        [np.diff(image, axis=2).reshape(n_bands, -1), np.diff(image, axis=1).reshape(n_bands, -1)], axis=1
    )
    if not differences.size:
        return np.eye(n_bands)
    size = np.abs(differences).sum(axis=0)
    quiet = differences[:, size <= np.median(size)]
    covariance = quiet @ quiet.T / quiet.shape[1] / 2
    ridge = NOISE_RIDGE * np.trace(covariance) / n_bands
    return covariance + max(ridge, 1e-12) * np.eye(n_bands)
