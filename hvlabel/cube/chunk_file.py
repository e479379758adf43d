"""The one file that holds all chunks of a cube, written chunk by chunk and read by byte ranges. Zarr calls it a shard.

Zarr's `sharding_indexed` codec: encoded chunks in any order, then for every chunk of the grid in C order its offset and
length as little-endian uint64 (all ones: absent), then the CRC32C of that index. Each chunk is Blosc-compressed and
followed by its own CRC32C. zarr-python writes such a file only in one piece from memory; here it may be of any size.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np
from numcodecs import blosc  # type: ignore[import-untyped]

from hvlabel.errors import CubeError
from hvlabel.zarr_files import CRC32C, Codec, bytes_codec

CHUNK_FILE = "cube/c/0/0/0"  # below the folder of the cube
LEVEL = 5
BYTE_SHUFFLED = 2  # bytes per value from which whole bytes are shuffled, not bits: a tenth larger, read a fifth faster
blosc.use_threads = False  # Blosc's own thread pool does not survive a fork; threads here each encode their own chunk
CRC = struct.Struct("<I")
RESIDUE = 0x48674BC7  # CRC32C of anything followed by its own CRC32C
CONTENT_BYTES = slice(4, 8)  # of a Blosc header: length of the content, little-endian
INDEX_ENTRY_BYTES = 16  # offset and length
ABSENT = 2**64 - 1


def codecs(itemsize: int) -> tuple[Codec, ...]:
    """What an array's metadata says about the encoding of a chunk; Blosc itself carries no checksum.

    itemsize : of its values, bytes
    """
    blosc_codec = {
        "name": "blosc",
        "configuration": {
            "typesize": itemsize,
            "cname": "lz4",
            "clevel": LEVEL,
            "shuffle": "shuffle" if itemsize >= BYTE_SHUFFLED else "bitshuffle",
            "blocksize": 0,  # Blosc chooses
        },
    }
    return bytes_codec(itemsize), blosc_codec, CRC32C


def sharding_codec(chunk_shape: tuple[int, ...], itemsize: int) -> Codec:
    """What the metadata says about a file that holds all chunks. itemsize: of the values, bytes."""
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": chunk_shape,
            "codecs": codecs(itemsize),
            "index_codecs": (bytes_codec(8), CRC32C),
            "index_location": "end",
        },
    }


def encode(chunk: np.ndarray) -> bytes:
    """One encoded chunk of C-contiguous little-endian values. Threads may call this at once."""
    shuffle = blosc.SHUFFLE if chunk.itemsize >= BYTE_SHUFFLED else blosc.BITSHUFFLE
    packed = blosc.compress(chunk, b"lz4", LEVEL, shuffle)
    return packed + CRC.pack(google_crc32c.value(packed))


def decode(path: Path, stored: np.ndarray, chunk: np.ndarray) -> None:
    """Fill a C-contiguous chunk from its encoded bytes (uint8).

    CubeError if they do not match their checksum, or hold another number of bytes than the chunk.
    """
    if len(stored) <= CRC.size or google_crc32c.value(stored) != RESIDUE:
        raise CubeError(f"{path}: a chunk is damaged; delete the cube and run again to convert it anew")
    # a shorter content would leave the rest of the chunk as it was in memory
    if int.from_bytes(stored[CONTENT_BYTES].tobytes(), "little") != chunk.nbytes:
        raise CubeError(f"{path}: a chunk has another size than its array says; delete the cube and run again")
    blosc.decompress(stored, chunk)


class ChunkFileWriter:
    """Appends chunks to a file; `close` writes the index.

    n_chunks : of the whole grid
    crc32c   : of everything written so far: the file's entry in the receipt, without reading it again
    """

    def __init__(self, file: BinaryIO, n_chunks: int) -> None:
        self._file = file
        self._index = np.full((n_chunks, 2), ABSENT, "<u8")
        self._end = 0
        self.crc32c = 0

    def write(self, number: int, encoded: bytes) -> None:
        """Append the chunk of this number (C order of the grid)."""
        self._append(encoded)
        self._index[number] = self._end, len(encoded)
        self._end += len(encoded)

    def close(self) -> None:
        """Write the index and hand everything to the system; every chunk must be there."""
        assert not (self._index == ABSENT).any()
        index = self._index.tobytes()
        self._append(index + CRC.pack(google_crc32c.value(index)))
        self._file.flush()

    def _append(self, content: bytes) -> None:
        self._file.write(content)
        self.crc32c = google_crc32c.extend(self.crc32c, content)


def read_index(path: Path, n_chunks: int) -> np.ndarray:
    """(n_chunks, 2) uint64 offset and length of each chunk, bytes; CubeError if it is damaged."""
    size = n_chunks * INDEX_ENTRY_BYTES + CRC.size
    try:
        with path.open("rb", buffering=0) as file:
            start = max(path.stat().st_size - size, 0)
            tail = os.pread(file.fileno(), size, start)
    except OSError as error:
        raise CubeError(f"{path}: cannot read the cube ({error.strerror}); run again to convert it anew") from error
    if len(tail) != size or google_crc32c.value(tail) != RESIDUE:
        raise CubeError(f"{path}: the chunk index is damaged; delete the cube and run again to convert it anew")
    return np.frombuffer(tail[: -CRC.size], "<u8").reshape(n_chunks, 2)
