"""Zarr v3 groups written file by file: the same bytes as zarr-python's, for a tenth of its processor time.

zarr-python passes every file through an event loop in a thread of its own, and rewrites the group's file once per
attribute. For small images that was most of a conversion. `tests/cube/test_zarr_files.py` compares the two.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

Codec = dict[str, Any]  # as it stands in an array's metadata

CRC32C: Codec = {"name": "crc32c"}  # of the encoded bytes, behind them
METADATA_FILE = "zarr.json"
MAX_CHUNK_PX = 4096  # side of a chunk of a layer; ours have 512
INDENT = 2  # of an array's metadata: people read it


def bytes_codec(itemsize: int) -> Codec:
    """How values become bytes: the little end first. itemsize: of a value, bytes."""
    if itemsize == 1:  # has no ends
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


@dataclass(frozen=True)
class ArrayLayout:
    """How an array lies in a group.

    chunk_shape : of what is one file, values along each axis
    codecs      : from values to the bytes of a file
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_shape: tuple[int, ...]
    codecs: tuple[Codec, ...]
    dimension_names: tuple[str, ...]
    attributes: dict[str, str] = field(default_factory=dict)

    def metadata(self) -> bytes:
        """Content of the file that describes the array. The order is zarr-python's."""
        document = {
            "shape": self.shape,
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": self.chunk_shape}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": self.dtype.type(0).item(),
            "codecs": self.codecs,
            "attributes": self.attributes,
            "dimension_names": self.dimension_names,
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }
        return json.dumps(document, indent=INDENT).encode()

    def chunk_file(self, *place: int) -> str:
        """Path of a chunk's file below the group. place: row, column, ... in the grid of chunks."""
        return "/".join((self.name, "c", *map(str, place)))


class GroupFiles:
    """The files of a group in the making. Threads may write at once.

    checksums : path below the group -> CRC32C, so that the receipt need not read them again
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checksums: dict[str, int] = {}
        path.mkdir(parents=True)

    def add(self, layout: ArrayLayout) -> None:
        """Describe an array, which has no chunk yet."""
        self.write(f"{layout.name}/{METADATA_FILE}", layout.metadata())

    def place(self, name: str) -> Path:
        """Where a file of the group lies; its folder is made."""
        file = self.path / name
        os.makedirs(file.parent, exist_ok=True)
        return file

    def write(self, name: str, content: bytes) -> None:
        """Write one file of the group."""
        self.place(name).write_bytes(content)
        self.checksums[name] = google_crc32c.value(content)

    def write_rows(
        self,
        layout: ArrayLayout,
        start: int,
        rows: np.ndarray,
        encode: Callable[[np.ndarray], bytes],
        *,
        with_empty: bool = False,
    ) -> None:
        """Write the chunks of some rows of an array of two or three axes, the last of which is not cut.

        start      : first row, where a row of chunks begins
        rows       : (rows, W) or (rows, W, channels)
        with_empty : write chunks of zeros alone too, which zarr-python leaves out and every reader fills up
        """
        height, width, *channels = layout.chunk_shape
        last_place = (0,) * len(channels)
        for y in range(0, len(rows), height):
            for x in range(0, rows.shape[1], width):
                part = rows[y : y + height, x : x + width]
                if not with_empty and not part.any():
                    continue
                chunk = _whole(part, layout)
                place = ((start + y) // height, x // width, *last_place)
                self.write(layout.chunk_file(*place), encode(chunk))


def group_metadata(attributes: dict[str, Any]) -> bytes:
    """Content of the file that makes a folder a group."""
    return json.dumps({"attributes": attributes, "zarr_format": 3, "node_type": "group"}).encode()


def require_layer(metadata: dict[str, Any], shape: tuple[int, ...], dtype: str) -> None:
    """ValueError, KeyError or TypeError unless an array is of this shape and type: a file must not fill the memory."""
    chunk_shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    as_written = metadata["data_type"] == dtype and tuple(metadata["shape"]) == shape
    fits = len(chunk_shape) == len(shape) and all(
        1 <= side <= max(n, MAX_CHUNK_PX) for side, n in zip(chunk_shape, shape, strict=True)
    )
    if not (as_written and fits):
        raise ValueError(f"not {dtype} of {shape}")


def read_layer(path: Path, metadata: dict[str, Any], decode: Callable[[np.ndarray, np.ndarray], None]) -> np.ndarray:
    """A whole array of two or three axes, the last of which is not cut.

    path     : of the array
    metadata : of the array
    decode   : fills a chunk from the bytes of its file (uint8)
    OSError, ValueError, KeyError or TypeError where it is not as it says.
    """
    values = np.zeros(metadata["shape"], metadata["data_type"])
    chunk = np.empty(metadata["chunk_grid"]["configuration"]["chunk_shape"], values.dtype)
    height, width = chunk.shape[:2]
    last_place = "/0" * (chunk.ndim - 2)
    for y in range(0, values.shape[0], height):
        for x in range(0, values.shape[1], width):
            file = path / f"c/{y // height}/{x // width}{last_place}"
            try:
                stored = np.fromfile(file, np.uint8)
            except FileNotFoundError:  # zeros alone
                continue
            decode(stored, chunk)
            values[y : y + height, x : x + width] = chunk[: values.shape[0] - y, : values.shape[1] - x]
    return values


def even_side(n: int, largest: int) -> int:
    """Side of as few even chunks of `n` as are no larger than `largest`: the last one is filled up least."""
    n_chunks = math.ceil(n / largest)
    return math.ceil(n / n_chunks)


def _whole(part: np.ndarray, layout: ArrayLayout) -> np.ndarray:
    """A chunk of full size, C-contiguous; at the edge it is filled up with zeros."""
    if part.shape == layout.chunk_shape:
        return np.ascontiguousarray(part, layout.dtype)
    chunk = np.zeros(layout.chunk_shape, layout.dtype)
    chunk[tuple(map(slice, part.shape))] = part
    return chunk
