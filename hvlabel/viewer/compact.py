"""A cube small enough for a page: exact where that fits, else by its strongest components, with the largest error."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hvlabel.cube import Cube
from hvlabel.viewer.packed import Packed, packed

WORTH_A_TRY = 3  # times the room: integers that are larger never shrink so far
MOST_PIXELS = 100_000  # that are kept of a larger image
MOST_COMPONENTS = 16
LEAST_COMPONENTS = 3  # even of an image that leaves no room for them
ROUNDING_SHARE = 0.1  # of the error's square that may come from rounding
MOST_LEVELS = 60_000  # of a component, to stay in 16 bit
BLOCK_PX = 1 << 14  # whose error is taken at a time


class CompactCube(NamedTuple):
    """Spectra of an image as a page holds them.

    kind          : integers (stored values, times `scale`), floats, or components
    stride_px     : spectra are kept of every so manieth row and column
    largest_error : of any value of a kept pixel, in the cube's unit
    usual_error   : root of the mean square
    values        : (C, h, w); components: (K, h, w) int16 in steps of `scale`
    mean, basis   : (C,) and (K, C) float32; value = mean + scale * sum of component times basis
    """

    kind: str
    stride_px: int
    scale: float
    largest_error: float
    usual_error: float
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
    return CompactCube(kind, 1, scale, 0.0, 0.0, [plane])


def _components(values: np.ndarray, room_bytes: int) -> CompactCube:
    """The strongest principal components, rounded, as many as there is room for."""
    n_bands, height, width = values.shape
    stride_px = max(1, int(np.ceil((height * width / MOST_PIXELS) ** 0.5)))
    thinned = values[:, ::stride_px, ::stride_px]  # (C, h, w)
    size = thinned.shape[1:]
    flat = thinned.reshape(n_bands, -1)  # (C, P)
    mean = flat.mean(axis=1, dtype=np.float64).astype(np.float32)
    centred = flat - mean[:, None]
    variance, axes = np.linalg.eigh((centred @ centred.T).astype(np.float64) / centred.shape[1])  # rising
    n_components = min(MOST_COMPONENTS, n_bands)
    basis = axes[:, ::-1][:, :n_components].T.astype(np.float32)  # (K, C)
    scores = basis @ centred  # (K, P)
    lost = float(np.clip(variance[: n_bands - n_components], 0, None).sum())  # mean square over all bands
    # rounding to steps of q costs q^2 / 12 a component
    fine = (12 * ROUNDING_SHARE * lost / n_components) ** 0.5
    step = max(fine, float(np.ptp(scores)) / MOST_LEVELS, float(np.finfo(np.float32).tiny))
    rounded = np.round(scores / step).astype(np.int16)
    planes: list[Packed] = []
    taken_bytes = 0
    for component in rounded:
        plane = packed(component.reshape(size))
        taken_bytes += plane.n_bytes
        if len(planes) >= LEAST_COMPONENTS and taken_bytes > room_bytes:
            break
        planes.append(plane)
    basis = np.ascontiguousarray(basis[: len(planes)])
    largest, square = 0.0, 0.0
    for start in range(0, flat.shape[1], BLOCK_PX):
        block = slice(start, start + BLOCK_PX)
        again = basis.T.astype(np.float64) @ (rounded[: len(planes), block] * step) + mean[:, None]
        error = np.abs(again - flat[:, block])
        largest = max(largest, float(error.max()))
        square += float((error**2).sum())
    usual = (square / flat.size) ** 0.5
    return CompactCube("components", stride_px, step, largest, usual, planes, packed(mean), packed(basis))
