"""How a cube is cut into chunks: pure integers."""

from __future__ import annotations

CHUNK_BYTES = 2 << 20  # near this a random crop reads little too much and a chunk is worth its overhead (docs/CUBES.md)
MIN_SIDE_PX, MAX_SIDE_PX = 16, 128


def chunk_side_px(n_bands: int, itemsize: int) -> int:
    """Side of the square of pixels that, with all bands, makes one chunk."""
    side = MAX_SIDE_PX
    while side > MIN_SIDE_PX and n_bands * side * side * itemsize > CHUNK_BYTES:
        side //= 2
    return side
