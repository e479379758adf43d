"""How a cube is cut into chunks and shards: pure integers."""

from __future__ import annotations

from dataclasses import dataclass

CHUNK_BYTES = 1 << 20  # near this a random crop reads little too much and a chunk still compresses well
MIN_SIDE_PX, MAX_SIDE_PX = 16, 128


@dataclass(frozen=True)
class ChunkPlan:
    """Sizes along (band, y, x); every shard is a whole number of chunks and is written once, in one piece."""

    chunk: tuple[int, int, int]
    shard: tuple[int, int, int]


def chunk_plan(n_bands: int, height_px: int, width_px: int, itemsize: int, shard_bytes: int) -> ChunkPlan:
    """All bands and a square of pixels per chunk, one shard per image or, where that exceeds shard_bytes, per strip of rows.

    A shard must be encoded whole, so it bounds the memory of a conversion; at least one row of chunks goes into a shard.
    """
    side = MAX_SIDE_PX
    while side > MIN_SIDE_PX and n_bands * side * side * itemsize > CHUNK_BYTES:
        side //= 2
    columns = -(-width_px // side) * side
    rows = -(-height_px // side)
    row_bytes = n_bands * side * columns * itemsize
    rows_per_shard = min(rows, max(1, shard_bytes // row_bytes))
    return ChunkPlan(chunk=(n_bands, side, side), shard=(n_bands, rows_per_shard * side, columns))


def strips(height_px: int, rows_px: int) -> list[tuple[int, int]]:
    """Consecutive [start, stop) row ranges of rows_px rows that cover the height."""
    return [(start, min(start + rows_px, height_px)) for start in range(0, height_px, rows_px)]
