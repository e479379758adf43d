"""material: masks on the full spectrum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, TypeAlias, cast

import numpy as np
from pydantic import Field, model_validator

from hvlabel.branches.pictures import confirmed, scored
from hvlabel.config import (
    DistilledModel,
    GeneratorSettings,
    HyperFreeModel,
    NetworkBranchSettings,
    NetworkGenerator,
    read_by,
)
from hvlabel.masks import Mask, MaskSet, best_masks, ranked

if TYPE_CHECKING:
    from hvlabel.branches.points import PromptModel
    from hvlabel.cube import Cube
    from hvlabel.models.sam.distilled import SpectralPredictor

    # from a camera's wavelengths (nm) and its ground sampling distance (m) to its network
    ModelOfCamera: TypeAlias = Callable[[Sequence[float], float], PromptModel]
    SpectralModelOfCamera: TypeAlias = Callable[[Sequence[float]], SpectralPredictor]

MAX_BANDS = 512  # more than any camera has; spectrometers in a laboratory have two thousand
DARK = 1e-12  # share of the brightest pixel below which a spectrum has no direction
NOISE_RIDGE = 1e-3  # share of the mean noise variance added to its diagonal, so that dead bands cannot blow up
LEAST = 1e-12  # of variances and spreads that are divided by: a flat cube has none


class MaterialSettings(NetworkBranchSettings):
    """Masks on the full spectrum."""

    version: ClassVar[int] = 2

    backend: Literal["auto", "sam", "distilled", "hyperfree", "regions"] = Field(
        "auto",
        description="auto: sam where its weights are at hand, else regions, which needs none; distilled: one pass of "
        "an encoder taught by SAM, on generated scenes only",
    )
    n_components: Annotated[int, read_by("regions")] = Field(
        6, ge=1, le=32, description="regions: whitened spectral components that carry the segmentation"
    )
    n_composites: Annotated[int, read_by("sam")] = Field(
        2,
        ge=1,
        le=8,
        description="sam: false-colour pictures of three whitened spectral components each, strongest first",
    )
    link_iou: Annotated[float, read_by("sam")] = Field(
        0.5, gt=0, le=1, description="sam: a mask of another composite at or above this mask IoU supports a mask"
    )
    nms_iou: Annotated[float, read_by("sam", "distilled")] = Field(
        0.8, gt=0, le=1, description="sam, distilled: masks above this mask IoU are one"
    )
    max_masks: Annotated[int, read_by("sam", "distilled")] = Field(
        300, ge=1, description="sam, distilled: best masks kept per image"
    )
    distilled: Annotated[DistilledModel, read_by("distilled")] = Field(
        DistilledModel(), description="the network of backend distilled"
    )
    hyperfree: Annotated[HyperFreeModel | None, read_by("hyperfree")] = Field(
        None, description="required by backend hyperfree"
    )
    generator: NetworkGenerator = GeneratorSettings(pred_iou_thresh=0.6, stability_score_thresh=0.6)

    @model_validator(mode="after")
    def _no_refinement(self) -> Self:
        if self.generator.use_m2m:
            raise ValueError("generator.use_m2m refines with SAM2's decoder; leave it false for material")
        return self


def run(cube: Cube, settings: MaterialSettings, model: PromptModel | ModelOfCamera | None = None) -> MaskSet:
    """Masks of the cube's spectra, best first.

    model : of backend sam, the network; of backend distilled, a function from a camera's wavelengths (nm) to its
            network; of backend hyperfree, one from these and the ground sampling distance (m)
    """
    if model is None:
        masks = _regions(cube, settings)
    elif settings.backend == "sam":
        masks = _on_composites(cube, settings, cast("PromptModel", model))
    elif settings.backend == "distilled":
        masks = _by_distilled(cube, settings, cast("SpectralModelOfCamera", model))
    else:
        masks = _on_spectra(cube, settings, cast("ModelOfCamera", model))
    return ranked(masks, cube.height_px, cube.width_px)


# torch and scikit-image are imported only in these: reading a configuration imports this file, and they take seconds


def _regions(cube: Cube, settings: MaterialSettings) -> list[Mask]:
    """Regions of the spectral components."""
    from hvlabel.branches.regions import multiscale_regions

    components = spectral_components(cube.live_values(), settings.n_components, cube.valid)
    return multiscale_regions(components, settings.regions, "material")


def _on_composites(cube: Cube, settings: MaterialSettings, model: PromptModel) -> list[Mask]:
    """Masks of the false-colour pictures of spectral components, those that several confirm first."""
    from hvlabel.branches.generator import generate_masks

    per_composite = []
    for components, picture in composites(cube.live_values(), settings.n_composites, cube.valid):
        generated = generate_masks(model, picture, settings.generator, "material")
        extra = {"composite": list(components)}
        marked = [replace(mask, extra=extra) for mask in generated]
        per_composite.append([scored(mask) for mask in marked])
    pooled = confirmed(per_composite, settings.link_iou)
    return best_masks(pooled, settings.nms_iou, settings.max_masks)


def _by_distilled(cube: Cube, settings: MaterialSettings, model_of_camera: SpectralModelOfCamera) -> list[Mask]:
    """Masks of one pass of the distilled encoder."""
    from hvlabel.branches.distilled import distilled_masks

    return distilled_masks(
        cube.live_values(),
        cube.live_wavelengths_nm.tolist(),
        model_of_camera,
        settings.generator,
        nms_iou=settings.nms_iou,
        max_masks=settings.max_masks,
        valid=cube.valid,
    )


def _on_spectra(cube: Cube, settings: MaterialSettings, model_of_camera: ModelOfCamera) -> list[Mask]:
    """Masks of a network that reads all bands."""
    from hvlabel.branches.generator import generate_masks

    assert settings.hyperfree is not None  # the settings' validator
    model = model_of_camera(cube.live_wavelengths_nm.tolist(), settings.hyperfree.gsd_m)
    spectra = cube.live_values().transpose(1, 2, 0)  # (H, W, C)
    return generate_masks(model, spectra, settings.generator, "material")


def composites(
    values: np.ndarray, n_composites: int, valid: np.ndarray | None = None
) -> list[tuple[tuple[int, int, int], np.ndarray]]:
    """Up to n_composites false-colour pictures of a cube's spectral components, the strongest three first.

    values : (C, H, W) float32, any unit
    valid  : (H, W) bool, pixels with values; the others are black. None: all
    Each comes with its components, counted from 1 as (red, green, blue), and as (H, W, 3) uint8. The last one shares
    components with the one before where they do not suffice for three of its own.
    """
    from hvlabel.cube.render import as_picture, false_colour  # only here: it imports zarr

    components = spectral_components(values, 3 * n_composites, valid)  # (H, W, D)
    n_components = components.shape[2]
    last = n_components - 1
    pictures: list[tuple[tuple[int, int, int], np.ndarray]] = []
    for first in range(0, n_components, 3):
        red = max(0, min(first, last - 2))  # back to where three are left
        green = min(red + 1, last)  # fewer than three in all: the last one again
        blue = min(red + 2, last)
        channels = [components[:, :, k] for k in (red, green, blue)]
        planes = np.stack(channels)  # (3, H, W)
        picture = as_picture(false_colour(planes, valid=valid))
        pictures.append(((red + 1, green + 1, blue + 1), picture))
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
    known = slice(None) if valid is None else valid.ravel()
    spectra = _of_unit_length(values.reshape(n_bands, -1), known)  # (C, N)
    spectra -= spectra[:, known].mean(axis=1, keepdims=True)
    image = spectra.reshape(len(spectra), height, width)
    noise_covariance = _noise_covariance(image, valid)  # (C, C)
    noise_variance, noise_axes = np.linalg.eigh(noise_covariance)
    whitening = noise_axes / np.sqrt(noise_variance)  # (C, C)
    whitened = whitening.T @ spectra  # (C, N), noise of variance 1 in every direction
    of_known = whitened[:, known]  # (C, n)
    covariance = of_known @ of_known.T / of_known.shape[1]
    ratio, axes = np.linalg.eigh(covariance)  # rising
    ratio = ratio[::-1][:n_components]  # (D,) strongest first
    axes = axes[:, ::-1][:, :n_components]  # (C, D)
    positive = np.maximum(ratio, LEAST)[:, None]  # (D, 1)
    fourth_root = positive**0.25
    components = (axes.T @ whitened) / fourth_root  # (D, N); of the deviation, a square root, a fourth root is left
    spread = float(np.percentile(np.abs(components[:, known]), 99))
    if valid is not None:
        components[:, ~valid.ravel()] = 0  # the middle value, below
    value_range = 2 * 2**0.5 * max(spread, LEAST)  # 99 % of the values come to lie within 0.5 +- 0.354
    scaled = components / value_range + 0.5
    upright = scaled.T.reshape(height, width, -1)  # (H, W, D)
    return np.ascontiguousarray(upright, dtype=np.float32)


def _of_unit_length(spectra: np.ndarray, known: np.ndarray | slice) -> np.ndarray:
    """(C, N) float64 spectra of length 1, those that are almost dark shorter; a single band over its brightest value.

    known : of (N,), the pixels with values
    """
    tiny = np.finfo(np.float64).tiny  # against a division by zero
    wide = _fewer_bands(spectra).astype(np.float64)
    # divided in place: no second copy of a large cube
    if len(wide) == 1:
        of_known = np.abs(wide[:, known])
        brightest = float(of_known.max())
        wide /= max(brightest, tiny)
        return wide
    length = np.linalg.norm(wide, axis=0)  # (N,)
    least_length = max(DARK * float(length.max()), tiny)
    wide /= np.maximum(length, least_length)
    return wide


def _fewer_bands(spectra: np.ndarray) -> np.ndarray:
    """(C, N) spectra; of more than MAX_BANDS bands means of equally many neighbours: memory and time grow with them."""
    n_bands = len(spectra)
    if n_bands <= MAX_BANDS:
        return spectra
    together = -(-n_bands // MAX_BANDS)  # rounded up
    starts = np.arange(0, n_bands, together)
    n_averaged = np.diff([*starts, n_bands])
    sums = np.add.reduceat(spectra, starts, axis=0, dtype=np.float64)
    return sums / n_averaged[:, None]


def _noise_covariance(image: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """(C, C) noise covariance of a (C, H, W) image: half that of the quieter half of the neighbour differences.

    valid : (H, W) bool, pixels that count; None: all
    """
    n_bands = len(image)
    across = np.diff(image, axis=2).reshape(n_bands, -1)
    down = np.diff(image, axis=1).reshape(n_bands, -1)
    if valid is not None:
        both_across = valid[:, 1:] & valid[:, :-1]
        both_down = valid[1:] & valid[:-1]
        across = across[:, both_across.ravel()]
        down = down[:, both_down.ravel()]
    differences = np.concatenate([across, down], axis=1)
    if not differences.size:  # one pixel, or no two valid ones side by side
        return np.eye(n_bands)
    strength = np.abs(differences).sum(axis=0)
    quiet = differences[:, strength <= np.median(strength)]  # edges of objects are in the louder half
    covariance = quiet @ quiet.T / quiet.shape[1] / 2  # a difference has the noise of two pixels
    ridge = NOISE_RIDGE * np.trace(covariance) / n_bands
    return covariance + max(ridge, LEAST) * np.eye(n_bands)
