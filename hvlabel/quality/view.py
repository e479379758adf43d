"""What features look at: noise-whitened spectral components and the picture of one image, with their edges."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hvlabel.cube import Cube

N_COMPONENTS = 6
SAMPLE_PX = 40_000  # pixels that decide the components: more change nothing, and a large cube has millions
BLOCK_PX = 1 << 18  # projected at a time
NOISE_RIDGE = 1e-3  # share of the mean noise variance added to its diagonal, as in branches.material


@dataclass(frozen=True)
class View:
    """One image as features see it.

    components      : (H, W, D) float32, in deviations of the noise
    component_edges : (H, W) float32, length of their gradient
    picture         : (H, W, 3) float32, [0, 1]
    picture_edges   : (H, W) float32
    values          : (C, H, W) float32, live bands, any unit
    valid           : (H, W) bool; None: all pixels hold a value
    """

    components: np.ndarray
    component_edges: np.ndarray
    picture: np.ndarray
    picture_edges: np.ndarray
    values: np.ndarray
    valid: np.ndarray | None


def view_of(cube: Cube) -> View:
    """The view of a cube."""
    return make_view(cube.live_values(), cube.rgb, cube.valid)


def make_view(values: np.ndarray, rgb: np.ndarray, valid: np.ndarray | None = None) -> View:
    """The view of (C, H, W) float32 values and an (H, W, 3) uint8 picture."""
    components = whitened_components(values, valid)
    picture = rgb.astype(np.float32) / 255
    return View(
        components=components,
        component_edges=_edges(components, valid),
        picture=picture,
        picture_edges=_edges(picture, valid),
        values=values,
        valid=valid,
    )


def whitened_components(values: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """(H, W, D) float32 minimum noise fractions of the spectral shape, in deviations of the noise, strongest first.

    values : (C, H, W) float32, any unit
    valid  : (H, W) bool; None: all
    As branches.material.spectral_components, but from a regular sample of pixels and without its weights: here a
    distance has to mean the same in every image.
    """
    n_bands, height, width = values.shape
    pairs = _neighbours(values, valid)
    if pairs is None:
        return np.zeros((height, width, 1), np.float32)
    sample, neighbours = pairs
    noise = _noise_covariance(sample - neighbours)  # (C, C)
    variance, axes = np.linalg.eigh(noise)
    whitening = (axes / np.sqrt(variance)).T  # (C, C)
    centre = sample.mean(axis=1, keepdims=True)  # (C, 1)
    whitened = whitening @ (sample - centre)  # (C, n)
    covariance = whitened @ whitened.T / whitened.shape[1]
    _, turned = np.linalg.eigh(covariance)  # weakest first
    strongest = turned[:, ::-1][:, :N_COMPONENTS].T  # (D, C)
    # both steps in one matrix, so that the whole image is multiplied once
    projection = (strongest @ whitening).astype(np.float32)  # (D, C)
    offset = projection @ centre.astype(np.float32)  # (D, 1)
    flat = values.reshape(n_bands, -1)
    components = np.empty((len(projection), height * width), np.float32)  # (D, H * W)
    for start in range(0, height * width, BLOCK_PX):
        block = flat[:, start : start + BLOCK_PX]
        # of length 1 after the projection: it has fewer rows to divide than there are bands
        projected = (projection @ block) / _lengths(block)
        components[:, start : start + BLOCK_PX] = projected - offset
    return np.ascontiguousarray(components.T).reshape(height, width, -1)


def _lengths(spectra: np.ndarray) -> np.ndarray:
    """(N,) float32 of (C, N) float32 spectra, above 0; of a single band 1, as it has no shape."""
    if len(spectra) == 1:
        return np.ones(spectra.shape[1], np.float32)
    squares = np.einsum("cn,cn->n", spectra, spectra)  # without a (C, N) array of squares
    return np.maximum(np.sqrt(squares), np.float32(1e-30))


def _neighbours(values: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """(C, n) unit spectra of a regular sample of pixels, and of those to their right; None if there are too few.

    values, valid : as of `whitened_components`
    """
    n_bands, height, width = values.shape
    n_px_each = height * width / SAMPLE_PX  # pixels that one of the sample stands for
    step = max(1, round(n_px_each**0.5))
    here = (slice(0, height, step), slice(0, width - 1, step))
    right = (slice(0, height, step), slice(1, width, step))
    use = np.ones((height, width), bool) if valid is None else valid
    both = (use[here] & use[right]).ravel()
    if both.sum() < 2:  # a covariance needs two
        return None
    sample = values[:, *here].reshape(n_bands, -1)[:, both]
    neighbours = values[:, *right].reshape(n_bands, -1)[:, both]
    return _unit(sample), _unit(neighbours)


def _noise_covariance(change: np.ndarray) -> np.ndarray:
    """(C, C) of (C, n) differences of neighbours: half that of the quieter half, with a ridge for dead bands."""
    n_bands = len(change)
    strength = np.abs(change).sum(axis=0)
    quiet = change[:, strength <= np.median(strength)]  # the rest are edges
    noise = quiet @ quiet.T / quiet.shape[1] / 2  # a difference has the noise of two pixels
    ridge = NOISE_RIDGE * np.trace(noise) / n_bands
    noise += np.eye(n_bands) * max(ridge, 1e-12)  # also where all values are equal
    return noise


def _unit(spectra: np.ndarray) -> np.ndarray:
    """(C, N) float64 spectra of length 1; a single band stays as it is."""
    wide = spectra.astype(np.float64)
    if len(wide) == 1:
        return wide
    length = np.linalg.norm(wide, axis=0)
    return wide / np.maximum(length, 1e-30)


def _edges(image: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """(H, W) float32 length of the gradient over all channels of an (H, W, D) image; 0 beside invalid pixels."""
    total = np.zeros(image.shape[:2], np.float32)
    for k in range(image.shape[2]):
        channel = np.ascontiguousarray(image[:, :, k])
        for dx, dy in ((1, 0), (0, 1)):
            slope = cv2.Sobel(channel, cv2.CV_32F, dx, dy, ksize=3, scale=0.125)  # per px
            total += slope * slope
    edges = np.sqrt(total)
    if valid is not None:
        surrounded = cv2.erode(valid.view(np.uint8), np.ones((3, 3), np.uint8))
        edges[surrounded == 0] = 0
    return edges
