"""JSON files that hold a checksum of themselves: one changed byte, and whoever reads them knows."""

from __future__ import annotations

import re

import google_crc32c

FIELD = "self_crc32c"
BLANK = "00000000"  # eight hexadecimal digits: what stands in the field while the checksum is taken
_PLACE = re.compile(rf'"{FIELD}": "([0-9a-f]{{8}})"'.encode())


def stamped(content: bytes) -> bytes:
    """A file's content with its checksum in the place of BLANK; FIELD stands in it once."""
    place = _PLACE.search(content)
    assert place is not None, "no field for a checksum"
    return _with(content, place, f"{google_crc32c.value(content):08x}".encode())


def is_whole(content: bytes) -> bool | None:
    """Whether a file's content is as it was stamped; None if it holds no checksum."""
    place = _PLACE.search(content)
    if place is None:
        named = f'"{FIELD}"'.encode() in content  # then its digits are none any more
        return False if named else None
    blank = _with(content, place, BLANK.encode())
    return place[1] == f"{google_crc32c.value(blank):08x}".encode()


def _with(content: bytes, place: re.Match[bytes], digits: bytes) -> bytes:
    """The content with other digits in the field."""
    return content[: place.start(1)] + digits + content[place.end(1) :]
