"""HSD: cubes as principal components, expanded slab by slab.

Little endian: int32 height, width, bands, components, first wavelength; float32 step; int32 last wavelength (nm); then float32
mean (bands), coefficients (components, bands) and scores (height * width, components).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.stored import FileArray, StoredArray
from hvlabel.wavelengths import Centres

HEADER = struct.Struct("<5ifi")
MAX_BANDS = 10_000


@dataclass(frozen=True)
class PcaArray:
    """(rows, columns, bands) float32 = scores @ coefficients + mean; only rows can be read.

    scores : (rows, columns, components) in the file
    """

    scores: FileArray
    mean: np.ndarray
    coefficients: np.ndarray
    chunk: None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sizes when expanded."""
        return (*self.scores.shape[:2], len(self.mean))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always float32."""
        return np.dtype(np.float32)

    def read(self, axis: int, start: int, stop: int, reuse: np.ndarray | None = None) -> np.ndarray:
        """Rows [start, stop); only axis 0, the slowest one, can be read so."""
        assert axis == 0
        scores = self.scores.read(axis, start, stop)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted as not finite later
            expanded = scores.reshape(-1, scores.shape[2]) @ self.coefficients
            expanded += self.mean
        return expanded.reshape(*scores.shape[:2], len(self.mean))


def read(path: Path, form: Form) -> StoredArray:
    """The cube of a .hsd file, with the wavelengths of its header."""
    with path.open("rb") as file:
        head = file.read(HEADER.size)
        if len(head) < HEADER.size:
            raise RawFileError(f"{path}: {len(head)} bytes, an HSD header has {HEADER.size}; copy it again")
        height, width, bands, components, first_nm, step_nm, _ = HEADER.unpack(head)
        if min(height, width, bands, components) < 1 or bands > MAX_BANDS or components > bands:
            raise RawFileError(
                f"{path}: the header names {height}x{width} px, {bands} bands, {components} components; "
                "expected positive sizes and no more components than bands: it is damaged or no HSD file"
            )
        expected = HEADER.size + 4 * (bands + components * bands + height * width * components)
        found = path.stat().st_size
        if found != expected:
            likely = "truncated" if found < expected else "damaged or of another format"
            raise RawFileError(
                f"{path}: {found} bytes, but the header promises {expected}; it is {likely}, copy it again"
            )
        mean = np.frombuffer(file.read(4 * bands), "<f4")
        coefficients = np.frombuffer(file.read(4 * components * bands), "<f4").reshape(components, bands)
        scores = FileArray(path, np.dtype("<f4"), (height, width, components), file.tell())
    sound = np.isfinite(step_nm) and first_nm > 0 and (step_nm > 0 or bands == 1)
    return StoredArray(
        PcaArray(scores, mean, coefficients),
        "yxc",
        (path,),
        centres=Centres(tuple(first_nm + k * float(step_nm) for k in range(bands)), "nm", "header") if sound else None,
    )
