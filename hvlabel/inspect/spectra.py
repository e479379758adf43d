"""Spectra of masks: mean and deviation inside, and of the ring around."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from hvlabel.cube import Cube
from hvlabel.masks import Rle, boxes_xyxy, decode

RING_SHARE, RING_PX = 0.15, (2, 12)  # width of the ring: share of the mask's side, and bounds; as of its features


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of some pixels.

    mean, deviation : (L,) float64 physical values
    n_px            : with a value; without any, both are nan
    """

    mean: np.ndarray
    deviation: np.ndarray
    n_px: int


@dataclass(frozen=True)
class MaskSpectrum:
    """The spectrum of a mask and of what surrounds it.

    wavelengths_nm : (L,) float64, live bands, rising
    inside, ring   : of the mask, and of the ring around it
    angle_rad      : between both means, in [0, pi]; nan where one of them is empty
    """

    wavelengths_nm: np.ndarray
    inside: Spectrum
    ring: Spectrum
    angle_rad: float


def mask_spectrum(cube: Cube, rle: Rle) -> MaskSpectrum:
    """The spectrum of one mask of a cube. Reads the chunks around the mask only."""
    whole = decode(rle)  # (H, W)
    x0, y0, x1, y1 = (int(v) for v in boxes_xyxy([rle])[0])
    area_px = int(np.count_nonzero(whole))
    reach_px = ring_width_px(area_px)
    rows = slice(max(0, y0 - reach_px), y1 + reach_px)
    columns = slice(max(0, x0 - reach_px), x1 + reach_px)
    inside = np.ascontiguousarray(whole[rows, columns])
    ring = ring_of(inside, reach_px)
    if cube.valid is not None:
        inside = inside & cube.valid[rows, columns]
        ring &= cube.valid[rows, columns]
    rising = np.argsort(cube.live_wavelengths_nm, kind="stable")
    by_wavelength = cube.live_bands[rising]
    values = cube.values(rows, columns)[by_wavelength]  # (L, h, w)
    mine = _spectrum(values, inside)
    around = _spectrum(values, ring)
    angle_rad = _angle_rad(mine.mean, around.mean)
    return MaskSpectrum(cube.wavelengths_nm[by_wavelength], mine, around, angle_rad)


def ring_width_px(area_px: int) -> int:
    """Width of the ring around a mask of this area."""
    side_px = area_px**0.5  # of a square of this area
    return int(np.clip(round(RING_SHARE * side_px), *RING_PX))


def ring_of(inside: np.ndarray, reach_px: int) -> np.ndarray:
    """(h, w) bool pixels around an (h, w) bool mask, up to a distance."""
    diameter_px = 2 * reach_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter_px, diameter_px))
    grown = cv2.dilate(inside.astype(np.uint8), disc) > 0
    return np.asarray(grown & ~inside)


def mean_spectra(values: np.ndarray, rles: Sequence[Rle], valid: np.ndarray | None = None) -> np.ndarray:
    """(N, C) float64 mean spectra of N masks; nan for one without a pixel that holds a value.

    values : (C, H, W) float32
    valid  : (H, W) bool; None: all
    """
    spectra = np.full((len(rles), len(values)), np.nan)
    for k, rle in enumerate(rles):
        inside = decode(rle)
        if valid is not None:
            inside &= valid
        if inside.any():
            spectra[k] = values[:, inside].mean(axis=1, dtype=np.float64)
    return spectra


def _spectrum(values: np.ndarray, marked: np.ndarray) -> Spectrum:
    """values: (L, h, w); marked: (h, w) bool."""
    pixels = values[:, marked].astype(np.float64)  # (L, n)
    if not pixels.shape[1]:
        nothing = np.full(len(values), np.nan)
        return Spectrum(nothing, nothing, 0)
    n_px = pixels.shape[1]
    return Spectrum(pixels.mean(axis=1), pixels.std(axis=1), n_px)


def _angle_rad(first: np.ndarray, second: np.ndarray) -> float:
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    cosine = first @ second / max(lengths, 1e-300)  # nan stays nan
    bounded = np.clip(cosine, -1, 1)  # rounding may lead beyond
    return float(np.arccos(bounded))
