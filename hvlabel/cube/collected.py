"""What all chunks of a cube together say about its image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hvlabel.cube.chunks import Encoded
from hvlabel.errors import RawFileError


class Statistics:
    """Range of every band and counts of what is missing, over all chunks.

    low, high : (C,) float64 of each band; inf and -inf for one without any value
    """

    def __init__(self, n_bands: int) -> None:
        self.low = np.full(n_bands, np.inf)
        self.high = np.full(n_bands, -np.inf)
        self.n_nonfinite = 0
        self.n_ignored = 0

    def add(self, part: Encoded) -> None:
        """Take in one chunk."""
        # infinities of bands that a chunk has nothing of drop out by themselves
        self.low = np.minimum(self.low, part.low)
        self.high = np.maximum(self.high, part.high)
        self.n_nonfinite += part.n_nonfinite
        self.n_ignored += part.n_ignored

    @property
    def n_missing(self) -> int:
        """Values that are no measurement."""
        return self.n_nonfinite + self.n_ignored

    @property
    def dead(self) -> np.ndarray:
        """(C,) bool, bands that hold no value, or the same one everywhere: they tell nothing about the image."""
        return ~(self.high > self.low)

    @property
    def stuck(self) -> np.ndarray:
        """(C,) bool, dead bands that hold one value: it would pass for a measurement where all others are missing."""
        return self.dead & np.isfinite(self.low)

    def require_image(self, path: Path) -> None:
        """RawFileError unless some band has two values. path: of the raw file, for the message."""
        if not (self.low <= self.high).any():
            raise RawFileError(
                f"{path}: the cube holds no finite value (all NaN, infinite, no data or beyond float32), "
                "expected an image; leave the file out"
            )
        if self.dead.all():
            low, high = self.low.min(), self.high.max()  # over all bands
            values = "each band has one single value throughout"
            if low == high:
                values = f"every value of the cube is {low:g}"
            raise RawFileError(f"{path}: {values}, expected an image; leave the file out")


class Valid:
    """Pixels that hold a value. mask: (H, W) bool; None as long as all do, as in most images."""

    def __init__(self, height: int, width: int) -> None:
        self._shape = (height, width)
        self.mask: np.ndarray | None = None

    def exclude(self, y: int, x: int, invalid: np.ndarray | None) -> None:
        """Mark the pixels of an (h, w) block whose first one is (y, x); None: none of them."""
        if invalid is None:
            return
        if self.mask is None:  # the first chunk with such a pixel
            self.mask = np.ones(self._shape, bool)
        height, width = invalid.shape
        self.mask[y : y + height, x : x + width] &= ~invalid

    @property
    def n_excluded(self) -> int:
        """Pixels without any value."""
        return 0 if self.mask is None else int(np.count_nonzero(~self.mask))
