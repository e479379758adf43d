"""One element of a MATLAB v5 file: its bytes from front to back, plain or compressed, and a cursor that reads tags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from isal import isal_zlib

from hvlabel.errors import RawFileError

BLOCK_BYTES = 1 << 20
TAG_BYTES = 8
WORD_BYTES = 4
PADDING_BYTES = 64  # more than any element is padded by


@dataclass(frozen=True)
class Element:
    """Where one variable lies in the file.

    start   : of its tag
    n_bytes : without the tag
    order   : byte order, "<" or ">"
    """

    path: Path
    start: int
    n_bytes: int
    is_compressed: bool
    order: str

    @property
    def content_start(self) -> int:
        """Behind the tag."""
        return self.start + TAG_BYTES


class Plain:
    """Bytes of an uncompressed element, its tag skipped."""

    def __init__(self, element: Element, file: IO[bytes]) -> None:
        file.seek(element.content_start)
        self._file = file
        self._n_left = element.n_bytes

    def take(self, n: int) -> bytes:
        """The next n bytes; none where they would reach beyond the element."""
        self._n_left -= n  # counted, since behind the element others follow
        return self._file.read(n) if self._n_left >= 0 else b""

    def skip(self, n: int) -> None:
        """Pass over n bytes."""
        self._n_left -= n
        self._file.seek(n, 1)  # plain bytes cost nothing to pass over

    def require_end(self, path: Path, most_left: int = PADDING_BYTES) -> None:
        """Plain bytes end where the element does, and have no checksum."""


class Inflated:
    """Bytes of a compressed element from front to back."""

    def __init__(self, element: Element, file: IO[bytes]) -> None:
        file.seek(element.content_start)
        self._file = file
        self._n_left = element.n_bytes
        self._stream = isal_zlib.decompressobj()

    def take(self, n: int) -> bytes:
        """The next n bytes; fewer where the stream ends."""
        parts = []
        n_missing = n  # one call may give less: a block of the file ends anywhere
        while n_missing > 0 and not self._stream.eof:
            part, is_exhausted = self._inflate(n_missing)
            if not part and is_exhausted:
                break
            parts.append(part)
            n_missing -= len(part)
        return b"".join(parts)

    def skip(self, n: int) -> None:
        """Pass over n bytes: they have to be unpacked all the same."""
        while n > 0:
            block = self.take(min(n, BLOCK_BYTES))
            if not block:
                return
            n -= len(block)

    def require_end(self, path: Path, most_left: int = PADDING_BYTES) -> None:
        """Read on to the checksum, which zlib verifies. most_left: bytes that may be left before it."""
        n_passed = 0
        while not self._stream.eof and n_passed < most_left:
            part, is_exhausted = self._inflate(min(most_left, BLOCK_BYTES))  # thrown away, for the checksum behind it
            n_passed += len(part)
            if not part and is_exhausted:
                break
        if not self._stream.eof:
            raise RawFileError(f"{path}: a compressed variable has no end; the file is truncated, copy it again")

    def _inflate(self, most: int) -> tuple[bytes, bool]:
        """Up to `most` further bytes, and whether the element has no more to unpack."""
        # what the last call had no room for comes first
        packed = self._stream.unconsumed_tail or self._more()
        return self._stream.decompress(packed, most), not packed

    def _more(self) -> bytes:
        block = self._file.read(min(BLOCK_BYTES, self._n_left))
        self._n_left -= len(block)
        return block


def open_element(element: Element, file: IO[bytes]) -> Plain | Inflated:
    """The element's bytes. file: the open raw file."""
    return Inflated(element, file) if element.is_compressed else Plain(element, file)


class Cursor:
    """Walks through an element from front to back.

    position : bytes from the element's content to what comes next
    n_parts  : matrices that were met, for a bound on them
    """

    def __init__(self, element: Element, source: Plain | Inflated) -> None:
        self.element = element
        self.position = 0
        self.n_parts = 0
        self._source = source

    def tag(self) -> tuple[int, int, bytes]:
        """(type, bytes, content if it stands inside the tag)."""
        first, second = self._words(2)
        # small elements: type and length share the first word, the content is the second
        small_bytes = first >> 16
        if small_bytes:
            content = np.array([second], f"{self.element.order}u4").tobytes()
            return first & 0xFFFF, small_bytes, content[:small_bytes]
        return first, second, b""

    def content(self, limit: int) -> bytes:
        """The content of the next small element; RawFileError if it is longer than a limit in bytes."""
        _, n_bytes, small = self.tag()
        if small:
            return small
        padded = -(-n_bytes // TAG_BYTES) * TAG_BYTES  # elements begin at multiples of 8 bytes
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

    def _words(self, n: int) -> list[int]:
        """The next n unsigned 32-bit numbers."""
        data = self._source.take(WORD_BYTES * n)
        if len(data) != WORD_BYTES * n:
            raise RawFileError(
                f"{self.element.path}: a variable ends inside its header; the file is truncated, copy it again"
            )
        self.position += WORD_BYTES * n
        return np.frombuffer(data, f"{self.element.order}u4").tolist()
