"""MATLAB files: v5 read here in bounded memory, v7.3 (which is HDF5) by the HDF5 reader, told apart by signature.

The layout is that of "MAT-File Format" (The MathWorks): a 128-byte header, then one element per variable, zlib-compressed
since v7; numbers lie in column-major order and may be stored in a smaller type than the variable's class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from isal import isal_zlib

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers import hdf5
from hvlabel.readers.stored import FileArray, Packed, Slabs, StoredArray, require_cube, require_plausible
from hvlabel.readers.variables import Variable, read_cube

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
CLASSES = {
    1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "float64", 7: "float32",
    8: "int8", 9: "uint8", 10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64", 15: "uint64",
}  # fmt: skip
NUMBERS = {CLASSES[code] for code in range(6, 16)}
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
COMPLEX_FLAG, LOGICAL_FLAG = 0x0800, 0x0200
MAX_DIMENSIONS, MAX_NAME_BYTES = 32, 4096
BLOCK_BYTES = 1 << 20


def is_v73(path: Path) -> bool:
    """Whether a .mat file is HDF5: its signature stands at offset 0 or behind MATLAB's 512-byte header."""
    with path.open("rb") as file:
        head = file.read(520)
    return HDF5_SIGNATURE in (head[:8], head[512:520])


def read(path: Path, form: Form) -> StoredArray:
    """The cube of a .mat file. The form's axes are MATLAB's; the bytes of both versions lie in the reverse order."""
    return read_cube(path, form, variables(path))


def variables(path: Path) -> dict[str, Variable]:
    """All variables of the file; of v5 files only the headers are read and unpacked."""
    if is_v73(path):
        return hdf5.variables(path, reversed_axes=True)
    size = path.stat().st_size
    found: dict[str, Variable] = {}
    with path.open("rb") as file:
        order = _byte_order(path, file.read(HEADER_BYTES))
        start = HEADER_BYTES
        while start + 8 <= size:
            file.seek(start)
            kind, n_bytes = np.frombuffer(file.read(8), f"{order}u4").tolist()
            end = start + 8 + n_bytes
            if kind not in (MATRIX, COMPRESSED) or end > size:
                raise RawFileError(
                    f"{path}: the element at byte {start} is of type {kind} and ends at byte {end} of {size}; the file is truncated or damaged, copy it again"
                )
            element = _Element(path, start, n_bytes, kind == COMPRESSED, order)
            array = _array(element)
            if array is not None:
                found[array[0]] = array[1]
            start = end
    return found


@dataclass(frozen=True)
class _Element:
    """Where one variable lies in the file; n_bytes without the eight of its tag."""

    path: Path
    start: int
    n_bytes: int
    compressed: bool
    order: str


class _Bytes(Protocol):
    def take(self, n: int) -> bytes: ...


class _Plain:
    """Bytes of an uncompressed element, its tag skipped."""

    def __init__(self, element: _Element, file: IO[bytes]) -> None:
        file.seek(element.start + 8)
        self.file, self.left = file, element.n_bytes

    def take(self, n: int) -> bytes:
        self.left -= n
        return self.file.read(n) if self.left >= 0 else b""


class _Inflated:
    """Bytes of a compressed element from front to back."""

    def __init__(self, element: _Element, file: IO[bytes]) -> None:
        file.seek(element.start + 8)
        self.file, self.left = file, element.n_bytes
        self.stream = isal_zlib.decompressobj()

    def take(self, n: int) -> bytes:
        parts, wanted = [], n
        while wanted > 0 and not self.stream.eof:
            source = self.stream.unconsumed_tail or self._more()
            part = self.stream.decompress(source, wanted)
            if not part and not source:
                break
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def require_end(self, path: Path) -> None:
        """Read on to the checksum, which zlib verifies; only padding may be left."""
        rest = 0
        while not self.stream.eof and rest < 64:
            source = self.stream.unconsumed_tail or self._more()
            part = self.stream.decompress(source, 64)
            rest += len(part)
            if not part and not source:
                break
        if not self.stream.eof:
            raise RawFileError(f"{path}: a compressed variable has no end; the file is truncated, copy it again")

    def _more(self) -> bytes:
        block = self.file.read(min(BLOCK_BYTES, self.left))
        self.left -= len(block)
        return block


@dataclass(frozen=True)
class _Header:
    """What stands before a variable's numbers. position: bytes from the element's content to the first number."""

    name: str
    shape: tuple[int, ...]
    kind: str
    stored: np.dtype[np.generic] | None
    n_bytes: int
    position: int
    small: bytes


def _byte_order(path: Path, header: bytes) -> str:
    if len(header) < HEADER_BYTES or header[126:128] not in (b"IM", b"MI"):
        raise RawFileError(
            f"{path}: neither MATLAB v5 nor v7.3 (no such signature); it is damaged, cut off or of another format: copy it again"
        )
    return "<" if header[126:128] == b"IM" else ">"


def _open(element: _Element, file: IO[bytes]) -> _Plain | _Inflated:
    return _Inflated(element, file) if element.compressed else _Plain(element, file)


def _array(element: _Element) -> tuple[str, Variable] | None:
    with element.path.open("rb") as file:
        source = _open(element, file)
        if isinstance(source, _Inflated):
            source.take(8)  # the tag of the matrix inside
        header = _header(element, source)
    if not header.name:
        return None  # MATLAB's own bookkeeping (function workspaces)

    def check() -> np.dtype[np.generic]:
        count = int(np.prod(header.shape, dtype=object))
        if header.stored is None or count * header.stored.itemsize != header.n_bytes:
            raise RawFileError(
                f"{element.path}: variable {header.name!r} of {'x'.join(map(str, header.shape))} {header.kind} has {header.n_bytes} bytes; the file is damaged, copy it again"
            )
        require_plausible(
            element.path, f"variable {header.name!r}", header.shape, header.stored.itemsize, element.n_bytes
        )
        return header.stored

    def blocks() -> Iterator[np.ndarray]:
        stored = check()
        with element.path.open("rb") as file:
            source = _open(element, file)
            source.take(header.position)
            left = header.n_bytes
            while left:
                block = header.small[:left] or source.take(min(BLOCK_BYTES, left))
                if len(block) % stored.itemsize or not block:
                    raise RawFileError(
                        f"{element.path}: variable {header.name!r} ends early; the file is truncated, copy it again"
                    )
                yield np.frombuffer(block, stored)
                left -= len(block)
            if isinstance(source, _Inflated):
                source.require_end(element.path)

    def array() -> Slabs | Packed:
        stored, dtype = check(), np.dtype(header.kind)
        shape = require_cube(element.path, f"variable {header.name!r}", header.shape[::-1], dtype)
        if element.compressed or header.small or stored.newbyteorder("=") != dtype:
            return Packed(shape, dtype, blocks)
        return FileArray(element.path, stored, shape, element.start + 8 + header.position)

    return header.name, Variable(header.shape, header.kind, True, array, lambda: np.concatenate([*blocks()]))


def _header(element: _Element, source: _Bytes) -> _Header:
    position = 8 if element.compressed else 0

    def number(n: int) -> list[int]:
        data = source.take(4 * n)
        if len(data) != 4 * n:
            raise RawFileError(
                f"{element.path}: a variable ends inside its header; the file is truncated, copy it again"
            )
        return np.frombuffer(data, f"{element.order}u4").tolist()

    def tag() -> tuple[int, int, bytes]:
        """(type, bytes, content if it stands inside the tag)."""
        nonlocal position
        position += 8
        first, second = number(2)
        if first >> 16:
            return first & 0xFFFF, first >> 16, np.array([second], f"{element.order}u4").tobytes()[: first >> 16]
        return first, second, b""

    def content(limit: int) -> bytes:
        nonlocal position
        _, n_bytes, small = tag()
        if small:
            return small
        padded = -(-n_bytes // 8) * 8
        if padded > limit:
            raise RawFileError(
                f"{element.path}: a variable's header is {n_bytes} bytes long; the file is damaged, copy it again"
            )
        position += padded
        return source.take(padded)[:n_bytes]

    flags = np.frombuffer(content(8), f"{element.order}u4")
    shape = tuple(np.frombuffer(content(4 * MAX_DIMENSIONS), f"{element.order}i4").tolist())
    name = content(MAX_NAME_BYTES).decode("utf-8", "replace")
    if flags.size == 0 or any(n < 0 for n in shape):
        raise RawFileError(f"{element.path}: a variable's header makes no sense; the file is damaged, copy it again")
    kind = CLASSES.get(int(flags[0]) & 0xFF, "unknown")
    if int(flags[0]) & COMPLEX_FLAG:
        kind = "complex"
    elif int(flags[0]) & LOGICAL_FLAG:
        kind = "logical"
    if kind not in NUMBERS or 0 in shape:
        return _Header(name, shape, kind, None, 0, 0, b"")
    type_, n_bytes, small = tag()
    stored = np.dtype(element.order + TYPES[type_]) if type_ in TYPES else None
    return _Header(name, shape, kind, stored, n_bytes, position, small)
