"""Teacher features of one image on disk: written whole, read by windows, every chunk checked."""

from __future__ import annotations

import math
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
from hvlabel.group_file import array_metadata, attributes_of

CHUNK_TOKENS = 32  # side of a chunk, all channels
CRC_BYTES = 4
VALUE_BYTES = 2  # of a float16


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
        window = np.empty((rows.stop - rows.start, columns.stop - columns.start, self.shape[2]), np.float16)
        for row in _chunks_under(rows):
            for column in _chunks_under(columns):
                to_y, from_y = _common(rows, row)
                to_x, from_x = _common(columns, column)
                window[to_y, to_x] = self._chunk(row, column)[from_y, from_x]
        return window

    def _chunk(self, row: int, column: int) -> np.ndarray:
        """(CHUNK_TOKENS, CHUNK_TOKENS, D) float16; at the grid's end a chunk is stored whole too."""
        path = self.path / f"features/c/{row}/{column}/0"
        shape = (CHUNK_TOKENS, CHUNK_TOKENS, self.shape[2])
        try:
            stored = path.read_bytes()
        except OSError:
            stored = b""
        content = stored[:-CRC_BYTES]
        checksum = int.from_bytes(stored[-CRC_BYTES:], "little")
        is_whole = len(content) == VALUE_BYTES * math.prod(shape)
        if not is_whole or google_crc32c.value(content) != checksum:
            raise CubeError(f"{path}: a chunk of teacher features is damaged; delete {self.path} and run again")
        return np.frombuffer(content, "<f2").reshape(shape)


def _chunks_under(window: slice) -> range:
    """The chunks along an axis that a window of tokens touches."""
    return range(window.start // CHUNK_TOKENS, (window.stop - 1) // CHUNK_TOKENS + 1)


def _common(window: slice, chunk: int) -> tuple[slice, slice]:
    """What a window and a chunk have in common along an axis: in the window, and in the chunk."""
    first = chunk * CHUNK_TOKENS
    start = max(window.start, first)
    stop = min(window.stop, first + CHUNK_TOKENS)
    return slice(start - window.start, stop - window.start), slice(start - first, stop - first)


def write_features(path: Path, values: np.ndarray, attributes: dict[str, Any]) -> None:
    """Publish (h, w, D) values as a Zarr group with one float16 array `features`; after each chunk comes its CRC32C."""
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
            config={"write_empty_chunks": True},  # so that a chunk that is not there is damage
        )
        array[:] = values.astype(np.float16)
        seal_folder(temporary, attributes, {})
        publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_features(path: Path | str) -> Features:
    """The features at `path`; CubeError if they are missing, unfinished or something else."""
    path = Path(path)
    try:
        attributes = attributes_of(path)
        h, w, d = array_metadata(path, "features", attributes)["shape"]
        y_px, x_px = attributes["stride_yx_px"]
        return Features(path, (h, w, d), (y_px, x_px), attributes)
    except CubeError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CubeError(f"{path}: no finished teacher features; run the workflow again to make them") from error
