"""A cube small enough for a page: exact where that fits, else by its strongest components, with the largest error."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hvlabel.cube import Cube
from hvlabel.viewer.packed import Packed, packed

WORTH_A_TRY = 3  # times the room: integers that are larger never shrink so far
MOST_SCORES = 1_600_000  # pixels times the components that matter; of larger images every n-th row and column is kept
MATTERING = 16
MOST_COMPONENTS, LEAST_COMPONENTS = 64, 3  # the few even of an image that leaves no room for them
BYTES_A_PIXEL = 8  # what those few take at most: three times 16 bit in base64
STEP = 1.0  # to which components are rounded, in deviations of the noise: a noisy one then takes 2 bits a pixel
NOISE_PLACE = 1 / 8  # of all components by rising variance, where there is but noise
# from 0 to the largest score. Few bands hold no component that is but noise; and far below 16 bit rounding saves room
LEAST_STEPS, MOST_STEPS = 128, 4096
BLOCK_PX = 1 << 14  # whose error is taken at a time


class CompactCube(NamedTuple):
    """Spectra of an image as a page holds them.

    kind          : integers (stored values, times `scale`), floats, or components
    stride_px     : spectra are kept of every so manieth row and column
    largest_error : of any value of a kept pixel, in the cube's unit
    usual_error   : root of the mean square
    value_range   : largest value less the smallest one
    values        : (C, h, w); components: (K, h, w) int16 in steps of `scale`
    mean, basis   : (C,) and (K, C) float32; value = mean + scale * sum of component times basis
    """

    kind: str
    stride_px: int
    scale: float
    largest_error: float
    usual_error: float
    value_range: float
    values: list[Packed]
    mean: Packed | None = None
    basis: Packed | None = None

    def as_json(self) -> dict[str, Any]:
        """What the page's scripts read."""
        fields = self._asdict()
        return {
            **fields,
            "values": [plane._asdict() for plane in self.values],
            "mean": None if self.mean is None else self.mean._asdict(),
            "basis": None if self.basis is None else self.basis._asdict(),
        }


def compact_cube(cube: Cube, values: np.ndarray, bands: np.ndarray, room_bytes: int) -> CompactCube:
    """The best coding that takes no more than room_bytes of a page, or three components where nothing else does.

    values : (C, H, W) float32, the physical values of `bands`
    bands  : (C,) int, their places in the file
    """
    exact = _exact(cube, values, bands, room_bytes)
    return _components(values, room_bytes) if exact is None else exact


def _exact(cube: Cube, values: np.ndarray, bands: np.ndarray, room_bytes: int) -> CompactCube | None:
    """All values as they are; None if they are too many."""
    has_missing = cube.attributes["n_nonfinite"] or cube.attributes.get("n_ignored")
    small_integers = cube.dtype.kind in "iu" and cube.dtype.itemsize <= 2  # a float32 holds them
    if small_integers and not has_missing:
        kind, scale = "integers", cube.scale
        n_bytes = values.size * cube.dtype.itemsize
    else:
        kind, scale = "floats", 1.0
        n_bytes = values.nbytes
    if n_bytes > WORTH_A_TRY * room_bytes:
        return None
    plane = packed(cube.read()[bands] if kind == "integers" else values)
    if plane.n_bytes > room_bytes:
        return None
    return CompactCube(kind, 1, scale, 0.0, 0.0, float(np.ptp(values)), [plane])


def _components(values: np.ndarray, room_bytes: int) -> CompactCube:
    """The strongest principal components, rounded, as many as there is room for."""
    n_bands, height, width = values.shape
    n_scores = height * width * min(MATTERING, n_bands)
    least_bytes = height * width * BYTES_A_PIXEL
    thinning = max(n_scores / MOST_SCORES, least_bytes / room_bytes)
    stride_px = max(1, int(np.ceil(thinning**0.5)))
    thinned = values[:, ::stride_px, ::stride_px]  # (C, h, w)
    size = thinned.shape[1:]
    flat = thinned.reshape(n_bands, -1)  # (C, P)
    mean = flat.mean(axis=1, dtype=np.float64).astype(np.float32)  # (C,)
    centred = flat - mean[:, None]
    covariance = (centred @ centred.T).astype(np.float64) / centred.shape[1]  # (C, C)
    variance, axes = np.linalg.eigh(covariance)  # rising
    strongest = axes[:, ::-1][:, :MOST_COMPONENTS]  # (C, K)
    # orthonormal, so that a rounded score costs the same in every component
    basis = strongest.T.astype(np.float32)  # (K, C)
    scores = basis @ centred  # (K, P)
    noise_variance = variance[int(NOISE_PLACE * n_bands)]
    noise = float(np.clip(noise_variance, 0, None)) ** 0.5  # rounding may make it negative
    tiny = float(np.finfo(np.float32).tiny)  # of an image of one spectrum all scores are 0
    largest_score = max(float(np.abs(scores).max()), tiny)
    finest, coarsest = largest_score / MOST_STEPS, largest_score / LEAST_STEPS
    step = float(np.clip(STEP * noise, finest, coarsest))
    rounded = np.round(scores / step).astype(np.int16)
    planes: list[Packed] = []
    taken_bytes = 0
    for component in rounded:  # strongest first: what there is no room for matters least
        plane = packed(component.reshape(size))
        taken_bytes += plane.n_bytes
        if len(planes) >= LEAST_COMPONENTS and taken_bytes > room_bytes:
            break
        planes.append(plane)
    basis = np.ascontiguousarray(basis[: len(planes)])
    largest, usual = _errors(flat, mean, basis, rounded[: len(planes)], step)
    value_range = float(np.ptp(flat))
    return CompactCube("components", stride_px, step, largest, usual, value_range, planes, packed(mean), packed(basis))


def _errors(
    flat: np.ndarray, mean: np.ndarray, basis: np.ndarray, rounded: np.ndarray, step: float
) -> tuple[float, float]:
    """The largest error of what the page makes of components, and the root of the mean square.

    flat : (C, P) what it should be; mean, basis: as of CompactCube; rounded: (K, P) int16
    """
    turn = basis.T.astype(np.float64)  # (C, K); the page computes in float64 too
    largest, square = 0.0, 0.0
    for start in range(0, flat.shape[1], BLOCK_PX):
        block = slice(start, start + BLOCK_PX)
        again = turn @ (rounded[:, block] * step) + mean[:, None]
        error = np.abs(again - flat[:, block])
        largest = max(largest, float(error.max()))
        square += float((error**2).sum())
    return largest, (square / flat.size) ** 0.5
