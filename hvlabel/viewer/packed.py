"""Arrays as a page holds them: compressed without loss, in base64."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 3  # of zlib; beyond it, pages take three times as long and are a thirtieth smaller


class Packed(NamedTuple):
    """An array as text. type: numpy's name of its numbers; data: base64 of zlib of its bytes.

    The first bytes of all numbers come first, then all second ones, and so on: alike bytes compress better together.
    """

    type: str
    shape: Sequence[int]
    data: str

    @property
    def n_bytes(self) -> int:
        """What it takes in a page."""
        return len(self.data)


def packed(array: np.ndarray) -> Packed:
    """An array of integers or floats, little-endian."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    as_bytes = little.reshape(-1).view(np.uint8)
    planes = as_bytes.reshape(-1, little.itemsize).T  # (bytes of a number, numbers)
    content = zlib.compress(np.ascontiguousarray(planes).data, LEVEL)
    data = base64.b64encode(content).decode()  # a page is text
    return Packed(array.dtype.name, list(array.shape), data)


def packed_text(lines: Sequence[str]) -> Packed:
    """Lines of ASCII."""
    text = "\n".join(lines)
    return packed(np.frombuffer(text.encode("ascii"), np.uint8))
