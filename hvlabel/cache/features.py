"""Teacher features of one image on disk: written whole, read by windows, every chunk checked."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from hvlabel.cache.publish import publish_folder, temporary_beside
from hvlabel.cache.receipt import seal_folder
from hvlabel.errors import CubeError
from hvlabel.group_file import array_metadata, attributes_of
from hvlabel.zarr_files import CRC32C, ArrayLayout, GroupFiles, bytes_codec, even_side

MAX_CHUNK_TOKENS = 32  # side of a chunk, all channels
CRC_BYTES = 4
VALUES = np.dtype("<f2")


@dataclass(frozen=True)
class Features:
    """Tokens of a picture on a regular grid.

    shape         : (h, w, D)
    chunk_shape   : rows, columns and channels of a chunk, tokens
    stride_yx_px  : height and width of a token in the picture, px
    attributes    : what they were made from
    """

    path: Path
    shape: tuple[int, int, int]
    chunk_shape: tuple[int, int, int]
    stride_yx_px: tuple[float, float]
    attributes: dict[str, Any]

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """(h', w', D) float16 of a window inside the grid; CubeError on a damaged chunk."""
        n_rows = rows.stop - rows.start
        n_columns = columns.stop - columns.start
        window = np.empty((n_rows, n_columns, self.shape[2]), np.float16)
        height, width, _ = self.chunk_shape
        for row in _chunks_under(rows, height):
            for column in _chunks_under(columns, width):
                to_y, from_y = _common(rows, row, height)
                to_x, from_x = _common(columns, column, width)
                chunk = self._chunk(row, column)
                window[to_y, to_x] = chunk[from_y, from_x]
        return window

    def _chunk(self, row: int, column: int) -> np.ndarray:
        """(rows, columns, D) float16; at the grid's end a chunk is stored whole too."""
        path = self.path / f"features/c/{row}/{column}/0"
        try:
            stored = path.read_bytes()
        except OSError:  # every chunk is written, also an empty one: what is not there is damage
            stored = b""
        content = stored[:-CRC_BYTES]
        checksum = int.from_bytes(stored[-CRC_BYTES:], "little")
        n_bytes = VALUES.itemsize * math.prod(self.chunk_shape)
        is_whole = len(content) == n_bytes
        if not is_whole or google_crc32c.value(content) != checksum:
            raise CubeError(f"{path}: a chunk of teacher features is damaged; delete {self.path} and run again")
        return np.frombuffer(content, VALUES).reshape(self.chunk_shape)


def _chunks_under(window: slice, side: int) -> range:
    """The chunks along an axis that a window of tokens touches. side: of a chunk, tokens."""
    return range(window.start // side, (window.stop - 1) // side + 1)


def _common(window: slice, chunk: int, side: int) -> tuple[slice, slice]:
    """What a window and a chunk have in common along an axis: in the window, and in the chunk."""
    first = chunk * side
    start = max(window.start, first)
    stop = min(window.stop, first + side)
    in_window = slice(start - window.start, stop - window.start)
    in_chunk = slice(start - first, stop - first)
    return in_window, in_chunk


def write_features(path: Path, values: np.ndarray, attributes: dict[str, Any]) -> None:
    """Publish (h, w, D) values as a Zarr group with one float16 array `features`; after each chunk comes its CRC32C."""
    height, width, n_channels = values.shape
    layout = ArrayLayout(
        "features",
        values.shape,
        VALUES,
        # a small grid is not filled up to the largest chunk
        chunk_shape=(even_side(height, MAX_CHUNK_TOKENS), even_side(width, MAX_CHUNK_TOKENS), n_channels),
        codecs=(bytes_codec(VALUES.itemsize), CRC32C),
        dimension_names=("y", "x", "channel"),
    )
    temporary = temporary_beside(path)
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had this one's number
    try:
        group = GroupFiles(temporary)
        group.add(layout)
        # so that a chunk that is not there is damage
        group.write_rows(layout, 0, values.astype(VALUES), _encode, with_empty=True)
        seal_folder(temporary, attributes, group.checksums)
        publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_features(path: Path | str) -> Features:
    """The features at `path`; CubeError if they are missing, unfinished or something else."""
    path = Path(path)
    try:
        attributes = attributes_of(path)
        metadata = array_metadata(path, "features", attributes)
        h, w, d = metadata["shape"]
        rows, columns, channels = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        y_px, x_px = attributes["stride_yx_px"]
        return Features(path, (h, w, d), (rows, columns, channels), (y_px, x_px), attributes)
    except CubeError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CubeError(f"{path}: no finished teacher features; run the workflow again to make them") from error


def _encode(chunk: np.ndarray) -> bytes:
    """A chunk's bytes and their CRC32C."""
    content = chunk.tobytes()
    checksum = google_crc32c.value(content)
    return content + checksum.to_bytes(CRC_BYTES, "little")
