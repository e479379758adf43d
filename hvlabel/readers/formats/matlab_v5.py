"""MATLAB v5 files, read in bounded memory.

The layout is that of "MAT-File Format" (The MathWorks): a 128-byte header, then one element per variable,
zlib-compressed since v7; numbers lie in column-major order and may be stored in a smaller type than the class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvlabel.errors import RawFileError
from hvlabel.readers.arrays import FileArray, Packed
from hvlabel.readers.contract import Stored
from hvlabel.readers.formats.matlab_bytes import BLOCK_BYTES, PADDING_BYTES, TAG_BYTES, Cursor, Element, open_element
from hvlabel.readers.named.variable import Variable
from hvlabel.readers.sizes import n_values, require_plausible

HEADER_BYTES = 128
MARKS = {b"IM": "<", b"MI": ">"}  # the last two bytes of the header: the letters MI as a 16-bit number
MATRIX, COMPRESSED = 14, 15
OPAQUE = 17  # class of objects of newer MATLAB
CLASSES = {
    1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "float64", 7: "float32",
    8: "int8", 9: "uint8", 10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64", 15: "uint64",
}  # fmt: skip
NUMBERS = {CLASSES[code] for code in range(6, 16)}
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASS_MASK, COMPLEX_FLAG, LOGICAL_FLAG = 0xFF, 0x0800, 0x0200
MAX_DIMENSIONS, MAX_NAME_BYTES = 32, 4096
MAX_DEPTH, MAX_PARTS = 16, 10_000  # of structs and cells; no data set nests deeper, a hostile file may
MAX_FIELD_NAMES_BYTES = 1 << 20
MAX_NESTED_BYTES = 1 << 40  # behind an array inside a struct or cell array there may be any other
V4_PRECISIONS = range(6)


def variables(path: Path) -> dict[str, Variable]:
    """All variables of the file, also those in structs and cell arrays; only headers are read and unpacked."""
    file_bytes = path.stat().st_size
    collected: dict[str, Variable] = {}
    with path.open("rb") as file:
        order = _require_byte_order(path, file.read(HEADER_BYTES))
        start = HEADER_BYTES
        while start + TAG_BYTES <= file_bytes:
            file.seek(start)
            tag = np.frombuffer(file.read(TAG_BYTES), f"{order}u4")
            kind, n_bytes = tag.tolist()
            end = start + TAG_BYTES + n_bytes
            if kind not in (MATRIX, COMPRESSED) or end > file_bytes:
                raise RawFileError(
                    f"{path}: the element at byte {start} is of type {kind} and ends at byte {end} of {file_bytes}; "
                    "the file is truncated or damaged, copy it again"
                )
            element = Element(path, start, n_bytes, kind == COMPRESSED, order)
            collected.update(_variables_of(element))
            start = end
    return collected


def byte_order(head: bytes) -> str | None:
    """ "<" or ">" by the mark at the end of a file's header; None if there is none. head: its first bytes."""
    return MARKS.get(head[HEADER_BYTES - 2 : HEADER_BYTES])


def _require_byte_order(path: Path, header: bytes) -> str:
    order = byte_order(header)
    if order is not None:
        return order
    if _is_v4(header):
        raise RawFileError(f"{path}: MATLAB v4, expected v5 or later; load it in MATLAB and save it with -v7")
    raise RawFileError(
        f"{path}: neither MATLAB v5 nor v7.3 (no such signature); "
        "it is damaged, cut off or of another format: copy it again"
    )


def _is_v4(header: bytes) -> bool:
    """Whether a file begins as MATLAB v4 files do: five 32-bit numbers, type, rows, columns, imaginary, name length.

    The digits of the type are byte order, 0, precision and kind of matrix.
    """
    if len(header) < 20:
        return False
    for order in "<>":
        numbers = np.frombuffer(header[:20], f"{order}i4")
        code, rows, columns, imaginary, name_bytes = numbers.tolist()
        machine = code // 1000
        precision = code // 10 % 10
        matrix = code % 10
        is_type = 0 <= code < 5000 and machine < 5 and precision in V4_PRECISIONS and matrix < 3
        is_shape = rows >= 0 and columns >= 0 and imaginary in (0, 1)
        if is_type and is_shape and 0 < name_bytes < 256:
            return True
    return False


def _variables_of(element: Element) -> dict[str, Variable]:
    """The variable of an element; of a struct or cell array also what it holds."""
    with element.path.open("rb") as file:
        cursor = Cursor(element, open_element(element, file))
        n_bytes = element.n_bytes
        if element.is_compressed:
            _, n_bytes, _ = cursor.tag()  # of the matrix inside; a plain element is the matrix
        return dict(_walk(cursor, n_bytes, "", 0))


def _walk(cursor: Cursor, n_bytes: int, name: str, depth: int) -> Iterator[tuple[str, Variable]]:
    """A matrix and whatever it holds, by name.

    Fields are struct/field, elements of cell arrays cell{1}, of arrays of structs struct(1)/field.
    n_bytes : of the matrix
    name    : of a matrix inside another one; "": its own
    """
    path = cursor.element.path
    end = cursor.position + n_bytes
    cursor.n_parts += 1
    if depth > MAX_DEPTH or cursor.n_parts > MAX_PARTS:
        raise RawFileError(
            f"{path}: structs or cells nested deeper than {MAX_DEPTH} or with more than {MAX_PARTS} parts; "
            "name another file"
        )
    header = _header(cursor)
    name = name or header.name
    if not name:
        return  # MATLAB's own bookkeeping (function workspaces)
    matrix = _Matrix(cursor.element, name, header)
    yield name, Variable(header.shape, header.kind, True, matrix.array, matrix.flat)
    for part in _parts(cursor, header, name):
        _, part_bytes, _ = cursor.tag()
        part_end = cursor.position + part_bytes
        if part_end > end:
            raise RawFileError(f"{path}: {part!r} reaches beyond its struct; the file is damaged, copy it again")
        if part_bytes:  # an element that was never set is empty
            yield from _walk(cursor, part_bytes, part, depth + 1)
            cursor.skip_to(part_end)


@dataclass(frozen=True)
class _Header:
    """What stands before a variable's numbers.

    stored   : type of the numbers in the file; None: there are none, or of no known type
    n_bytes  : of the numbers
    position : bytes from the element's content to the first number
    small    : the numbers themselves, if they stand inside their tag
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    position: int
    stored: np.dtype[np.generic] | None = None
    n_bytes: int = 0
    small: bytes = b""


def _header(cursor: Cursor) -> _Header:
    """What stands before a matrix's numbers; the cursor is behind it then."""
    order = cursor.element.order
    flags = np.frombuffer(cursor.content(8), f"{order}u4")
    if flags.size and int(flags[0]) & CLASS_MASK == OPAQUE:  # string, table, datetime: without dimensions
        name = _text(cursor.content(MAX_NAME_BYTES))
        return _Header(name, (), "object", cursor.position)
    sizes = np.frombuffer(cursor.content(4 * MAX_DIMENSIONS), f"{order}i4")  # of 4 bytes each
    shape = tuple(sizes.tolist())
    name = _text(cursor.content(MAX_NAME_BYTES))
    if flags.size == 0 or any(n < 0 for n in shape):
        raise RawFileError(
            f"{cursor.element.path}: a variable's header makes no sense; the file is damaged, copy it again"
        )
    class_code = int(flags[0]) & CLASS_MASK
    kind = CLASSES.get(class_code, "unknown")
    holds_numbers = kind in NUMBERS and 0 not in shape
    # flags tell of numbers what their class does not
    if int(flags[0]) & COMPLEX_FLAG:
        kind, holds_numbers = "complex", False
    elif int(flags[0]) & LOGICAL_FLAG:
        kind = "logical"
    if not holds_numbers:
        return _Header(name, shape, kind, cursor.position)
    type_code, n_bytes, small = cursor.tag()
    stored = np.dtype(order + TYPES[type_code]) if type_code in TYPES else None
    return _Header(name, shape, kind, cursor.position, stored, n_bytes, small)


def _parts(cursor: Cursor, header: _Header, name: str) -> list[str]:
    """Names of the matrices that a struct or cell array holds, in the order of the file."""
    path = cursor.element.path
    n_elements = n_values(header.shape)
    if header.kind not in ("struct", "cell"):
        return []
    if n_elements > MAX_PARTS:
        raise RawFileError(f"{path}: {name!r} has {n_elements} elements, expected an image; name another file")
    if header.kind == "cell":
        return [f"{name}{{{k + 1}}}" for k in range(n_elements)]
    fields = _field_names(cursor, name)  # arrays of structs have one list of fields, then all values, struct by struct
    owners = [name] if n_elements == 1 else [f"{name}({k + 1})" for k in range(n_elements)]
    if len(owners) * len(fields) > MAX_PARTS:
        raise RawFileError(f"{path}: {name!r} has too many fields, expected an image; name another file")
    return [f"{owner}/{field}" for owner in owners for field in fields]


def _field_names(cursor: Cursor, name: str) -> list[str]:
    """Names of a struct's fields: all of one length, filled up with zeros."""
    length = np.frombuffer(cursor.content(8), f"{cursor.element.order}i4")
    names = cursor.content(MAX_FIELD_NAMES_BYTES)
    step = int(length[0]) if length.size else 0
    if step < 1 or len(names) % step:
        raise RawFileError(
            f"{cursor.element.path}: the fields of {name!r} make no sense; the file is damaged, copy it again"
        )
    padded = [names[k : k + step] for k in range(0, len(names), step)]
    return [_text(name.split(b"\0")[0]) for name in padded]


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


@dataclass(frozen=True)
class _Matrix:
    """The numbers of a variable while its file is closed."""

    element: Element
    name: str
    header: _Header

    def array(self, cube_shape: tuple[int, int, int]) -> Stored:
        """See Variable."""
        stored = self._require_sound()
        dtype = np.dtype(self.header.kind)
        is_plain = not self.element.is_compressed and not self.header.small
        if is_plain and stored.newbyteorder("=") == dtype:
            offset = self.element.content_start + self.header.position
            return FileArray(self.element.path, stored, cube_shape, offset)
        return Packed(cube_shape, dtype, self._blocks)

    def flat(self) -> np.ndarray:
        """See Variable."""
        return np.concatenate([*self._blocks()])

    def _require_sound(self) -> np.dtype[np.generic]:
        """The type in the file; RawFileError unless sizes and bytes agree."""
        header, path = self.header, self.element.path
        if header.stored is None or n_values(header.shape) * header.stored.itemsize != header.n_bytes:
            raise RawFileError(
                f"{path}: variable {self.name!r} of {'x'.join(map(str, header.shape))} {header.kind} has "
                f"{header.n_bytes} bytes; the file is damaged, copy it again"
            )
        what = f"variable {self.name!r}"
        require_plausible(path, what, header.shape, header.stored.itemsize, self.element.n_bytes)
        return header.stored

    def _blocks(self) -> Iterator[np.ndarray]:
        """The numbers from front to back, in the type of the file."""
        stored = self._require_sound()
        path = self.element.path
        with path.open("rb") as file:
            source = open_element(self.element, file)
            source.skip(self.header.position)
            n_left = self.header.n_bytes  # without padding
            while n_left:
                n_next = min(BLOCK_BYTES, n_left)
                block = self.header.small[:n_left] or source.take(n_next)
                if len(block) % stored.itemsize or not block:
                    raise RawFileError(
                        f"{path}: variable {self.name!r} ends early; the file is truncated, copy it again"
                    )
                yield np.frombuffer(block, stored)
                n_left -= len(block)
            is_whole_element = self.name == self.header.name  # parts of a struct have no name of their own
            source.require_end(path, PADDING_BYTES if is_whole_element else MAX_NESTED_BYTES)
