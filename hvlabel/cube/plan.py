"""How a cube is cut into chunks: pure integers."""

from __future__ import annotations

from dataclasses import dataclass

CHUNK_BYTES = 2 << 20  # near this a random crop reads little too much and a chunk is worth its overhead (docs/CUBES.md)
MIN_SIDE_PX, MAX_SIDE_PX = 16, 128


@dataclass(frozen=True)
class Grid:
    """Square chunks of all bands over an image; those at its edges reach beyond it."""

    side_px: int
    n_rows: int
    n_columns: int

    @property
    def n_chunks(self) -> int:
        """Of the whole grid."""
        return self.n_rows * self.n_columns


def grid_of(shape: tuple[int, int, int], itemsize: int) -> Grid:
    """The grid of a (C, H, W) cube. itemsize: of its values, bytes."""
    n_bands, height, width = shape
    side = chunk_side_px(n_bands, itemsize)
    return Grid(side, -(-height // side), -(-width // side))


def chunk_side_px(n_bands: int, itemsize: int) -> int:
    """Side of the square of pixels that, with all bands, makes one chunk: halved until it is small enough."""
    side = MAX_SIDE_PX
    while side > MIN_SIDE_PX and n_bands * side * side * itemsize > CHUNK_BYTES:
        side //= 2
    return side
