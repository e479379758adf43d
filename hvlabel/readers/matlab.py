"""MATLAB files: v5 read here in bounded memory, v7.3 (which is HDF5) by the HDF5 reader, told apart by signature.

The layout is that of "MAT-File Format" (The MathWorks): a 128-byte header, then one element per variable, zlib-compressed
since v7; numbers lie in column-major order and may be stored in a smaller type than the variable's class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from isal import isal_zlib

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers import hdf5
from hvlabel.readers.stored import FileArray, Packed, Slabs, StoredArray, require_plausible
from hvlabel.readers.variables import Variable, read_cube

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
OPAQUE = 17  # class of objects of newer MATLAB
CLASSES = {
    1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "float64", 7: "float32",
    8: "int8", 9: "uint8", 10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64", 15: "uint64",
}  # fmt: skip
NUMBERS = {CLASSES[code] for code in range(6, 16)}
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
COMPLEX_FLAG, LOGICAL_FLAG = 0x0800, 0x0200
MAX_DIMENSIONS, MAX_NAME_BYTES = 32, 4096
BLOCK_BYTES = 1 << 20
MAX_DEPTH, MAX_PARTS = 16, 10_000  # of structs and cells; no data set nests deeper, a hostile file may
MAX_FIELD_NAMES_BYTES = 1 << 20
MAX_NESTED_BYTES = 1 << 40  # behind an array inside a struct or cell array there may be any other
V4_TYPES = range(6)


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
            found.update(_variables_of(element))
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


class _Plain:
    """Bytes of an uncompressed element, its tag skipped."""

    def __init__(self, element: _Element, file: IO[bytes]) -> None:
        file.seek(element.start + 8)
        self.file, self.left = file, element.n_bytes

    def take(self, n: int) -> bytes:
        self.left -= n
        return self.file.read(n) if self.left >= 0 else b""

    def skip(self, n: int) -> None:
        self.left -= n
        self.file.seek(n, 1)


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

    def skip(self, n: int) -> None:
        while n > 0 and (block := self.take(min(n, BLOCK_BYTES))):
            n -= len(block)

    def require_end(self, path: Path, most_left: int = 64) -> None:
        """Read on to the checksum, which zlib verifies. most_left: bytes that may be left before it, by default only padding."""
        rest = 0
        while not self.stream.eof and rest < most_left:
            source = self.stream.unconsumed_tail or self._more()
            part = self.stream.decompress(source, min(most_left, BLOCK_BYTES))
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
    if header[126:128] not in (b"IM", b"MI") and _is_v4(header):
        raise RawFileError(f"{path}: MATLAB v4, expected v5 or later; load it in MATLAB and save it with -v7")
    if len(header) < HEADER_BYTES or header[126:128] not in (b"IM", b"MI"):
        raise RawFileError(
            f"{path}: neither MATLAB v5 nor v7.3 (no such signature); it is damaged, cut off or of another format: copy it again"
        )
    return "<" if header[126:128] == b"IM" else ">"


def _is_v4(header: bytes) -> bool:
    """Whether a file begins as MATLAB v4 files do: type (thousands: byte order), rows, columns, imaginary, name length."""
    if len(header) < 20:
        return False
    for order in "<>":
        kind, rows, columns, imaginary, name_bytes = np.frombuffer(header[:20], f"{order}i4").tolist()
        machine, precision, matrix = kind // 1000, kind // 10 % 10, kind % 10
        sound_type = 0 <= kind < 5000 and machine < 5 and precision in V4_TYPES and matrix < 3
        if sound_type and rows >= 0 and columns >= 0 and imaginary in (0, 1) and 0 < name_bytes < 256:
            return True
    return False


def _open(element: _Element, file: IO[bytes]) -> _Plain | _Inflated:
    return _Inflated(element, file) if element.compressed else _Plain(element, file)


class _Cursor:
    """Walks through an element from front to back. position: bytes from the element's content to what comes next."""

    def __init__(self, element: _Element, source: _Plain | _Inflated) -> None:
        self.element, self.position, self.parts = element, 0, 0
        self._source = source

    def numbers(self, n: int) -> list[int]:
        """The next n unsigned 32-bit numbers."""
        data = self._source.take(4 * n)
        if len(data) != 4 * n:
            raise RawFileError(
                f"{self.element.path}: a variable ends inside its header; the file is truncated, copy it again"
            )
        self.position += 4 * n
        return np.frombuffer(data, f"{self.element.order}u4").tolist()

    def tag(self) -> tuple[int, int, bytes]:
        """(type, bytes, content if it stands inside the tag)."""
        first, second = self.numbers(2)
        if first >> 16:
            inside = np.array([second], f"{self.element.order}u4").tobytes()
            return first & 0xFFFF, first >> 16, inside[: first >> 16]
        return first, second, b""

    def content(self, limit: int) -> bytes:
        """The content of the next small element."""
        _, n_bytes, small = self.tag()
        if small:
            return small
        padded = -(-n_bytes // 8) * 8
        if padded > limit:
            raise RawFileError(
                f"{self.element.path}: a variable's header is {n_bytes} bytes long; the file is damaged, copy it again"
            )
        self.position += padded
        return self._source.take(padded)[:n_bytes]

    def skip_to(self, position: int) -> None:
        """Pass over what lies before a position."""
        if position > self.position:
            self._source.skip(position - self.position)
            self.position = position


def _variables_of(element: _Element) -> dict[str, Variable]:
    """The variable of an element; of a struct or cell array also what it holds."""
    with element.path.open("rb") as file:
        cursor = _Cursor(element, _open(element, file))
        n_bytes = element.n_bytes
        if element.compressed:
            _, n_bytes, _ = cursor.tag()  # of the matrix inside
        return dict(_walk(cursor, n_bytes, "", 0))


def _walk(cursor: _Cursor, n_bytes: int, name: str, depth: int) -> Iterator[tuple[str, Variable]]:
    """A matrix and whatever it holds, by name: fields as struct/field, elements of cell arrays as cell{1}, of arrays of structs
    as struct(1)/field.

    name : of a matrix inside another one; "": its own
    """
    element, end = cursor.element, cursor.position + n_bytes
    cursor.parts += 1
    if depth > MAX_DEPTH or cursor.parts > MAX_PARTS:
        raise RawFileError(
            f"{element.path}: structs or cells nested deeper than {MAX_DEPTH} or with more than {MAX_PARTS} parts; name another file"
        )
    header = _header(cursor)
    name = name or header.name
    if not name:
        return  # MATLAB's own bookkeeping (function workspaces)
    yield name, _variable(element, name, header)
    for inner in _parts(cursor, header, name):
        _, inner_bytes, _ = cursor.tag()
        if cursor.position + inner_bytes > end:
            raise RawFileError(
                f"{element.path}: {inner!r} reaches beyond its struct; the file is damaged, copy it again"
            )
        if inner_bytes:  # an element that was never set is empty
            inner_end = cursor.position + inner_bytes
            yield from _walk(cursor, inner_bytes, inner, depth + 1)
            cursor.skip_to(inner_end)


def _parts(cursor: _Cursor, header: _Header, name: str) -> list[str]:
    """Names of the matrices that a struct or cell array holds, in the order of the file."""
    n = int(np.prod(header.shape, dtype=object))
    if header.kind not in ("struct", "cell"):
        return []
    if n > MAX_PARTS:
        raise RawFileError(f"{cursor.element.path}: {name!r} has {n} elements, expected an image; name another file")
    if header.kind == "cell":
        return [f"{name}{{{k + 1}}}" for k in range(n)]
    length = np.frombuffer(cursor.content(8), f"{cursor.element.order}i4")
    names = cursor.content(MAX_FIELD_NAMES_BYTES)
    step = int(length[0]) if length.size else 0
    if step < 1 or len(names) % step:
        raise RawFileError(
            f"{cursor.element.path}: the fields of {name!r} make no sense; the file is damaged, copy it again"
        )
    fields = [names[k : k + step].split(b"\0")[0].decode("utf-8", "replace") for k in range(0, len(names), step)]
    owners = [name] if n == 1 else [f"{name}({k + 1})" for k in range(n)]
    if len(owners) * len(fields) > MAX_PARTS:
        raise RawFileError(f"{cursor.element.path}: {name!r} has too many fields, expected an image; name another file")
    return [f"{owner}/{field}" for owner in owners for field in fields]


def _variable(element: _Element, name: str, header: _Header) -> Variable:
    def check() -> np.dtype[np.generic]:
        count = int(np.prod(header.shape, dtype=object))
        if header.stored is None or count * header.stored.itemsize != header.n_bytes:
            raise RawFileError(
                f"{element.path}: variable {name!r} of {'x'.join(map(str, header.shape))} {header.kind} has {header.n_bytes} bytes; the file is damaged, copy it again"
            )
        require_plausible(element.path, f"variable {name!r}", header.shape, header.stored.itemsize, element.n_bytes)
        return header.stored

    def blocks() -> Iterator[np.ndarray]:
        stored = check()
        with element.path.open("rb") as file:
            source = _open(element, file)
            source.skip(header.position)
            left = header.n_bytes
            while left:
                block = header.small[:left] or source.take(min(BLOCK_BYTES, left))
                if len(block) % stored.itemsize or not block:
                    raise RawFileError(
                        f"{element.path}: variable {name!r} ends early; the file is truncated, copy it again"
                    )
                yield np.frombuffer(block, stored)
                left -= len(block)
            if isinstance(source, _Inflated):
                source.require_end(element.path, 64 if name == header.name else MAX_NESTED_BYTES)

    def array(cube_shape: tuple[int, int, int]) -> Slabs | Packed:
        stored, dtype = check(), np.dtype(header.kind)
        if element.compressed or header.small or stored.newbyteorder("=") != dtype:
            return Packed(cube_shape, dtype, blocks)
        return FileArray(element.path, stored, cube_shape, element.start + 8 + header.position)

    return Variable(header.shape, header.kind, True, array, lambda: np.concatenate([*blocks()]))


def _header(cursor: _Cursor) -> _Header:
    """What stands before a matrix's numbers; the cursor is behind it then."""
    element = cursor.element
    flags = np.frombuffer(cursor.content(8), f"{element.order}u4")
    if flags.size and int(flags[0]) & 0xFF == OPAQUE:  # string, table, datetime: without dimensions
        name = cursor.content(MAX_NAME_BYTES).decode("utf-8", "replace")
        return _Header(name, (), "object", None, 0, cursor.position, b"")
    shape = tuple(np.frombuffer(cursor.content(4 * MAX_DIMENSIONS), f"{element.order}i4").tolist())
    name = cursor.content(MAX_NAME_BYTES).decode("utf-8", "replace")
    if flags.size == 0 or any(n < 0 for n in shape):
        raise RawFileError(f"{element.path}: a variable's header makes no sense; the file is damaged, copy it again")
    kind = CLASSES.get(int(flags[0]) & 0xFF, "unknown")
    holds_numbers = kind in NUMBERS and 0 not in shape
    if int(flags[0]) & COMPLEX_FLAG:
        kind, holds_numbers = "complex", False
    elif int(flags[0]) & LOGICAL_FLAG:
        kind = "logical"
    if not holds_numbers:
        return _Header(name, shape, kind, None, 0, cursor.position, b"")
    type_, n_bytes, small = cursor.tag()
    stored = np.dtype(element.order + TYPES[type_]) if type_ in TYPES else None
    return _Header(name, shape, kind, stored, n_bytes, cursor.position, small)
