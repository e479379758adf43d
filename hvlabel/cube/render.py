"""RGB renderings of a cube: CIE colour matching or three bands, then a robust percentile stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hvlabel.config import CubeSettings
from hvlabel.cube.bands import nearest_band
from hvlabel.errors import BandError

Lobe = tuple[float, float, float, float]
# Multi-lobe fit of the CIE 1931 2-degree observer (Wyman, Sloan, Shirley 2013, JCGT 2(2)):
# amplitude, centre nm, width nm below and above the centre.
CIE_LOBES: tuple[tuple[Lobe, ...], ...] = (
    ((1.056, 599.8, 37.9, 31.0), (0.362, 442.0, 16.0, 26.7), (-0.065, 501.1, 20.4, 26.2)),
    ((0.821, 568.8, 46.9, 40.5), (0.286, 530.9, 16.3, 31.1)),
    ((1.217, 437.0, 11.8, 36.0), (0.681, 459.0, 26.0, 13.8)),
)
# IEC 61966-2-1: CIE XYZ (D65) to linear sRGB
XYZ_TO_SRGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
FAINT = 1e-4  # of the largest weight: bands below it are not read for the picture
# A colour needs samples over the visible range at least this dense
VISIBLE_NM = (450.0, 650.0)
VISIBLE_GAP_NM = 25.0
SPREAD = (5 / 6, 1 / 2, 1 / 6)  # of a cube's bands: red, green, blue in the middle of each third
GAMMA = 1 / 2.2
STRETCH_PIXELS = 1_000_000  # that decide the percentiles of a large picture
STRETCH_ROWS = 64  # at a time, to stay in the cache
STRETCH_LEVELS = 65_536  # between black and white, before gamma
MAX_GAIN, MAX_SPAN = 1e34, 1e38  # beyond them a stretch is computed in float64
GAMMA_TABLE = (np.linspace(0, 1, STRETCH_LEVELS) ** GAMMA * 255 + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class Rendering:
    """Linear map from bands to RGB.

    weights : (3, C) float32, bands in file order; rows are red, green, blue
    joint   : one stretch for all three channels (true colour) instead of one each (false colour)
    """

    kind: Literal["cie", "triplet"]
    weights: np.ndarray
    joint: bool

    @property
    def uses(self) -> np.ndarray:
        """(C,) bool, bands that have a weight."""
        return np.abs(self.weights).sum(axis=0) > 0


def choose_rendering(
    wavelengths_nm: np.ndarray, settings: CubeSettings, dead: np.ndarray | None = None, *, invented: bool = False
) -> Rendering:
    """The rendering of a cube without a companion.

    wavelengths_nm : (C,) float, band centres in file order
    dead           : (C,) bool, bands without information, which get no weight; None: none is
    invented       : the centres are placeholders, so three bands spread over the file stand for colours
    BandError if `cie` is demanded and the visible range is not covered, or the centres are invented.
    """
    alive = np.arange(len(wavelengths_nm)) if dead is None else np.flatnonzero(~dead)
    centres_nm = wavelengths_nm[alive]
    is_covered = not invented and covers_visible(centres_nm)
    if settings.rgb == "cie":
        _require_true_colour(centres_nm, is_covered=is_covered, invented=invented)
    weights = np.zeros((3, len(wavelengths_nm)), np.float32)
    if settings.rgb == "cie" or (settings.rgb == "auto" and is_covered):
        weights[:, alive] = cie_weights(centres_nm)
        return Rendering("cie", weights, joint=True)
    bands = spread_bands(len(alive)) if invented else triplet_bands(centres_nm, settings)
    weights[np.arange(3), alive[list(bands)]] = 1.0
    return Rendering("triplet", weights, joint=False)


def covers_visible(wavelengths_nm: np.ndarray) -> bool:
    """Whether the bands sample the visible range densely enough for colour matching."""
    rising_nm = np.sort(wavelengths_nm)
    low_nm, high_nm = VISIBLE_NM
    if rising_nm[0] > low_nm or rising_nm[-1] < high_nm:
        return False
    # one gap beyond each end: the bands just outside take part
    is_near = (rising_nm >= low_nm - VISIBLE_GAP_NM) & (rising_nm <= high_nm + VISIBLE_GAP_NM)
    gaps_nm = np.diff(rising_nm[is_near])
    return bool(gaps_nm.max(initial=0.0) <= VISIBLE_GAP_NM)


def cie_weights(wavelengths_nm: np.ndarray) -> np.ndarray:
    """(3, C) float32: bands to linear sRGB, each row summing to 1, so that a flat spectrum is neutral.

    Bands beyond sight have 0.
    """
    order = np.argsort(wavelengths_nm, kind="stable")
    spacing_nm = np.empty(len(order))
    spacing_nm[order] = np.gradient(wavelengths_nm[order])  # a band stands for the range around it
    matching = np.stack([_matching(wavelengths_nm, lobes) for lobes in CIE_LOBES])  # (3, C)
    weights = XYZ_TO_SRGB @ (matching * spacing_nm)
    of_band = np.abs(weights).max(axis=0)  # (C,) over the three colours
    weights[:, of_band < FAINT * of_band.max()] = 0
    sums = weights.sum(axis=1, keepdims=True)  # (3, 1)
    return (weights / sums).astype(np.float32)  # so that equal bands give grey


def triplet_bands(wavelengths_nm: np.ndarray, settings: CubeSettings) -> tuple[int, int, int]:
    """Bands nearest to settings.rgb_nm; where the cube does not reach them, spread over its range (longest is red)."""
    try:
        red, green, blue = (nearest_band(wavelengths_nm, nm, settings.band_tol_nm) for nm in settings.rgb_nm)
    except BandError:
        order = np.argsort(wavelengths_nm, kind="stable")
        red, green, blue = (int(order[k]) for k in spread_bands(len(order)))
    return red, green, blue


def spread_bands(n_bands: int) -> tuple[int, int, int]:
    """Positions of three bands spread over n_bands, the last one first."""
    red, green, blue = (min(int(share * n_bands), n_bands - 1) for share in SPREAD)
    return red, green, blue


def stretch(linear: np.ndarray, percentiles: tuple[float, float], *, joint: bool) -> np.ndarray:
    """(H, W, 3) uint8: percentiles mapped to black and white, gamma 1/2.2.

    linear : (H, W, 3) float32, any unit; non-finite pixels become black; of large pictures a regular grid of about
             STRETCH_PIXELS pixels decides the percentiles
    """
    step = sample_step(*linear.shape[:2])
    sample = linear[::step, ::step].reshape(-1, 3)
    limits = stretch_limits(sample, percentiles, joint=joint)
    return stretched(linear, limits)


def sample_step(height: int, width: int) -> int:
    """Distance of the pixels that decide a picture's percentiles."""
    n_px_each = height * width / STRETCH_PIXELS  # pixels that one of them stands for
    return max(1, int(np.ceil(n_px_each**0.5)))


def stretch_limits(sample: np.ndarray, percentiles: tuple[float, float], *, joint: bool) -> np.ndarray:
    """(2, 3) float32 values that become black and white, of (N, 3) pixels; both 0 if none is finite."""
    finite = sample[np.isfinite(sample).all(axis=1)]
    if not len(finite):
        return np.zeros((2, 3), np.float32)
    limits = np.percentile(finite, percentiles, axis=None if joint else 0).astype(np.float32)  # (2,) or (2, 3)
    return np.broadcast_to(limits.reshape(2, -1), (2, 3))


def stretched(linear: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of (H, W, 3) float32 between the limits of stretch_limits."""
    low, high = limits
    span = high.astype(np.float64) - low
    gain = (STRETCH_LEVELS - 1) / np.where(span > 0, span, 1.0)
    # float32 holds neither the steps of a tiny range nor the differences of a huge one
    is_exact = bool((gain < MAX_GAIN).all() and (span < MAX_SPAN).all())
    precision = np.float32 if is_exact else np.float64
    low, gain = low.astype(precision), gain.astype(precision)
    shown = np.empty(linear.shape, np.uint8)
    for start in range(0, len(linear), STRETCH_ROWS):
        rows = linear[start : start + STRETCH_ROWS]
        finite = np.isfinite(rows)
        if not finite.all():
            has_colour = finite.all(axis=2)[..., None]  # (rows, W, 1)
            rows = np.where(has_colour, rows, limits[0])  # black
        with np.errstate(over="ignore"):  # what overflows is white or black
            level = rows - low
            level *= gain
        np.clip(level, 0, STRETCH_LEVELS - 1, out=level)
        level += precision(0.5)
        # gamma by a table: a power per pixel would take most of the time
        target = shown[start : start + STRETCH_ROWS]
        np.take(GAMMA_TABLE, level.astype(np.uint16), mode="clip", out=target)
    return shown


def false_colour(
    bands: np.ndarray, percentiles: tuple[float, float] = (1.0, 99.0), valid: np.ndarray | None = None
) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1] of three bands (3, H, W), each stretched by itself, without gamma.

    valid : (H, W) bool, pixels that decide the stretch; the others are black. None: all are valid
    """
    if valid is None:
        low, high = np.percentile(bands, percentiles, axis=(1, 2), keepdims=True)
    else:
        limits = np.percentile(bands[:, valid], percentiles, axis=1)  # (2, 3)
        low, high = limits[:, :, None, None]
    span = np.where(high > low, high - low, 1.0)  # a flat band stays black
    shown = np.clip((bands - low) / span, 0, 1)
    if valid is not None:
        shown[:, ~valid] = 0
    return np.ascontiguousarray(shown.transpose(1, 2, 0), dtype=np.float32)


def as_picture(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 grey levels of a float image in [0, 1]."""
    levels = np.clip(image, 0, 1) * 255 + 0.5  # the type cuts off: a half more rounds
    return levels.astype(np.uint8)


def _require_true_colour(centres_nm: np.ndarray, *, is_covered: bool, invented: bool) -> None:
    """BandError where colours by the CIE observer are demanded and cannot be had."""
    if invented:
        raise BandError(
            "rgb: cie needs true band centres, these are placeholders; "
            "correct descriptor.wavelengths_nm, or use rgb: auto"
        )
    if not is_covered:
        low_nm, high_nm = VISIBLE_NM
        raise BandError(
            f"rgb: cie needs bands at most {VISIBLE_GAP_NM:g} nm apart over {low_nm:g}-{high_nm:g} nm, the cube covers "
            f"{centres_nm.min():g}-{centres_nm.max():g} nm with {len(centres_nm)} bands; use rgb: triplet or auto"
        )


def _matching(wavelengths_nm: np.ndarray, lobes: Sequence[Lobe]) -> np.ndarray:
    """(C,) how strongly the observer's X, Y or Z answers to each band."""
    return np.sum([_lobe(wavelengths_nm, *lobe) for lobe in lobes], axis=0)


def _lobe(
    wavelengths_nm: np.ndarray, amplitude: float, centre_nm: float, below_nm: float, above_nm: float
) -> np.ndarray:
    """(C,) a Gaussian with a width on either side."""
    width_nm = np.where(wavelengths_nm < centre_nm, below_nm, above_nm)
    distance = (wavelengths_nm - centre_nm) / width_nm
    return amplitude * np.exp(-0.5 * distance**2)
