"""Teacher features of one image on disk: written whole, read by windows, every chunk checked."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from hvlabel.cache.publish import publish_folder, temporary_beside
from hvlabel.cache.receipt import seal_folder
from hvlabel.errors import CubeError

CHUNK_TOKENS = 32  # side of a chunk, all channels
CRC_BYTES = 4


@dataclass(frozen=True)
class Features:
    """Tokens of a picture on a regular grid.

    shape         : (h, w, D)
    stride_yx_px  : height and width of a token in the picture, px
    attributes    : what they were made from
    """

    path: Path
    shape: tuple[int, int, int]
    stride_yx_px: tuple[float, float]
    attributes: dict[str, Any]

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """(h', w', D) float16 of a window inside the grid; CubeError on a damaged chunk."""
        y0, y1, x0, x1 = rows.start, rows.stop, columns.start, columns.stop
        out = np.empty((y1 - y0, x1 - x0, self.shape[2]), np.float16)
        for cy in range(y0 // CHUNK_TOKENS, (y1 - 1) // CHUNK_TOKENS + 1):
            for cx in range(x0 // CHUNK_TOKENS, (x1 - 1) // CHUNK_TOKENS + 1):
                top, left = cy * CHUNK_TOKENS, cx * CHUNK_TOKENS
                a, b = max(y0, top), min(y1, top + CHUNK_TOKENS)
                c, d = max(x0, left), min(x1, left + CHUNK_TOKENS)
                out[a - y0 : b - y0, c - x0 : d - x0] = self._chunk(cy, cx)[a - top : b - top, c - left : d - left]
        return out

    def _chunk(self, row: int, column: int) -> np.ndarray:
        path = self.path / f"features/c/{row}/{column}/0"
        side = (CHUNK_TOKENS, CHUNK_TOKENS, self.shape[2])
        try:
            stored = path.read_bytes()
        except OSError:
            stored = b""
        content = stored[:-CRC_BYTES]
        if len(content) != 2 * side[0] * side[1] * side[2] or google_crc32c.value(content) != int.from_bytes(
            stored[-CRC_BYTES:], "little"
        ):
            raise CubeError(f"{path}: a chunk of teacher features is damaged; delete {self.path} and run again")
        return np.frombuffer(content, "<f2").reshape(side)


def write_features(path: Path, values: np.ndarray, attributes: dict[str, Any]) -> None:
    """Publish (h, w, D) values as a Zarr group with one float16 array `features`, chunk by chunk followed by its CRC32C."""
    temporary = temporary_beside(path)
    try:
        group = zarr.create_group(temporary, overwrite=True)
        array = group.create_array(
            "features",
            shape=values.shape,
            dtype="float16",
            chunks=(CHUNK_TOKENS, CHUNK_TOKENS, values.shape[2]),
            compressors=[Crc32cCodec()],
            dimension_names=("y", "x", "channel"),
            config={"write_empty_chunks": True},
        )
        array[:] = values.astype(np.float16)
        seal_folder(temporary, attributes, {})
        publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_features(path: Path) -> Features:
    """The features at `path`; CubeError if they are missing, unfinished or something else."""
    try:
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
        h, w, d = json.loads((path / "features" / "zarr.json").read_bytes())["shape"]
        attributes["receipt"]  # written last
        y_px, x_px = attributes["stride_yx_px"]
        return Features(path, (h, w, d), (y_px, x_px), attributes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CubeError(f"{path}: no finished teacher features; run the workflow again to make them") from error
