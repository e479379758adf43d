"""Snapshot mosaic frames: one grey PNG whose pixels repeat an m x m filter pattern."""

from __future__ import annotations

from pathlib import Path

import cv2
import dask.array as da

from hvlabel.config import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers.stored import StoredArray


def read(path: Path, descriptor: Descriptor) -> StoredArray:
    """(m*m, H/m, W/m) cube of a mosaic frame; band = row in the pattern * m + column. No interpolation."""
    side = descriptor.mosaic_px
    assert side is not None  # the descriptor's validator
    frame = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)  # (H, W), 8 or 16 bit
    if frame is None:
        raise RawFileError(f"{path}: not a readable PNG; it is missing or truncated, copy it again")
    if frame.ndim != 2:
        raise RawFileError(
            f"{path}: {frame.shape[2]} channels, expected a grey mosaic frame; this may be the false-colour companion"
        )
    rows, cols = frame.shape[0] // side, frame.shape[1] // side
    if min(rows, cols) < 1:
        raise RawFileError(
            f"{path}: {frame.shape[1]}x{frame.shape[0]} px is smaller than one {side}x{side} pattern; check descriptor.mosaic_px"
        )
    tiles = frame[: rows * side, : cols * side].reshape(rows, side, cols, side)
    cube = tiles.transpose(1, 3, 0, 2).reshape(side * side, rows, cols)
    return StoredArray(array=da.from_array(cube, chunks=-1, name=False), axes="cyx", files=(path,))
