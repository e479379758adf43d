"""HSD: cubes as principal components, expanded slab by slab.

Little endian: int32 height, width, bands, components, first wavelength; float32 step; int32 last wavelength (nm); then
float32 mean (bands), coefficients (components, bands) and scores (height * width, components).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.arrays import Cut, FileArray
from hvlabel.readers.contract import Certainty, Look, StoredArray
from hvlabel.readers.guesses import look_at_array
from hvlabel.wavelengths import Centres

HEADER = struct.Struct("<5ifi")
FLOAT = np.dtype("<f4")
MAX_BANDS = 10_000
ROWS = 0  # the stored axis of the rows


@dataclass(frozen=True)
class PcaArray(Cut):
    """(rows, columns, bands) float32 = scores @ coefficients + mean; only rows can be cut.

    scores       : (rows, columns, components) in the file
    mean         : (bands,) float32
    coefficients : (components, bands) float32
    """

    scores: FileArray
    mean: np.ndarray
    coefficients: np.ndarray
    chunk: None = None
    cut_axes: tuple[int, ...] = (ROWS,)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sizes when expanded."""
        n_rows, n_columns, _ = self.scores.shape
        return n_rows, n_columns, len(self.mean)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always float32."""
        return np.dtype(np.float32)

    def read(self, axis: int, start: int, stop: int, reuse: np.ndarray | None = None) -> np.ndarray:
        """Rows [start, stop)."""
        assert axis in self.cut_axes
        scores = self.scores.read(ROWS, start, stop)
        n_rows, n_columns, n_components = scores.shape
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted as not finite later
            expanded = scores.reshape(-1, n_components) @ self.coefficients  # (rows * columns, bands)
            expanded += self.mean
        return expanded.reshape(n_rows, n_columns, len(self.mean))


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
        # before anything is read: the sizes must be those of the file
        _require_size(path, n_numbers=bands + components * bands + height * width * components)
        mean = np.frombuffer(file.read(FLOAT.itemsize * bands), FLOAT)
        n_coefficients = components * bands
        coefficients = np.frombuffer(file.read(FLOAT.itemsize * n_coefficients), FLOAT)
        scores = FileArray(path, FLOAT, (height, width, components), file.tell())
    array = PcaArray(scores, mean, coefficients.reshape(components, bands))
    return StoredArray(array, "yxc", (path,), centres=_centres(first_nm, step_nm, bands))


def look(path: Path) -> Look:
    """The header says everything."""
    return look_at_array(read(path, Form(container="hsd")))


def recognises(path: Path, head: bytes) -> Certainty:
    """By its suffix: the file begins with plain numbers."""
    is_called_so = path.suffix.lower() == ".hsd"
    return Certainty.NAME if is_called_so else Certainty.NONE


def _require_size(path: Path, n_numbers: int) -> None:
    n_bytes = path.stat().st_size
    expected = HEADER.size + FLOAT.itemsize * n_numbers
    if n_bytes != expected:
        likely = "truncated" if n_bytes < expected else "damaged or of another format"
        raise RawFileError(
            f"{path}: {n_bytes} bytes, but the header promises {expected}; it is {likely}, copy it again"
        )


def _centres(first_nm: int, step_nm: float, n_bands: int) -> Centres | None:
    """None where the header's numbers make no sense."""
    rises = step_nm > 0 or n_bands == 1  # the step of one band means nothing
    if not (np.isfinite(step_nm) and first_nm > 0 and rises):
        return None
    values_nm = tuple(first_nm + k * float(step_nm) for k in range(n_bands))
    return Centres(values_nm, "nm", "header")
