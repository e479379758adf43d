"""The readers' contract: what a module for one container format gets, what it gives, and what it leaves to others.

A container format is one module in `formats/` and one row in `table.py`. The module offers three functions, a `Reader`:

    read(path, form)        -> StoredArray    the numbers as they lie in the file, and what the file says about them
    look(path)              -> Look           what can be said of a file that has no descriptor
    recognises(path, head)  -> Certainty      whether a file is one of its own

What `read` has to keep:

- It reads headers only (and frames of mosaics, which are small). Values are read later, by the array it returns, which
  opens the file itself each time: nothing stays open, so that an array may be used by any thread and in any process.
- Nothing is allocated because a header says so: sizes are compared with the bytes that are there (`sizes.py`).
- Values stay as they are stored: type, byte order, order of the axes. Turning the image upright, leaving bands out,
  gains and the choice of band centres come after it, the same for all containers (`raw.py`).
- What is wrong with a file is a RawFileError: one sentence with the file, what is wrong, what was expected and the way
  out. Whatever else a library raises on a damaged file becomes such a sentence in `refusals.one_sentence`, which is
  around every call.
- What the form says goes before what the file says: where `form.scale` is set, unsound gains in the file do no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.readers.georeference import Georeference
from hvlabel.wavelengths import Centres


class Certainty(IntEnum):
    """How sure a reader is that a file is its own.

    The surest reader gets it, of equally sure ones the first in the table.
    """

    NONE = 0
    BESIDE = 1  # a text that begins like a header, or a header beside the file
    NAME = 2  # its suffix alone
    MARK = 3  # two bytes at a fixed place, which other files may have there by chance
    MAGIC = 4  # it begins with the format's magic number
    SIGNATURE = 5  # HDF5's eight bytes, before which 512 bytes of anything may stand


@dataclass(frozen=True)
class Reader:
    """One container format: a row of the table.

    read       : see StoredArray; the form's container is this one, and the path exists
    look       : see Look
    recognises : of the path and its first HEAD_BYTES bytes; of folders these are empty
    suffixes   : in small letters, of files that are images of this container; (): a name tells nothing
    of_folders : an image is a folder of files, not one file
    """

    read: Callable[[Path, Form], StoredArray]
    look: Callable[[Path], Look]
    recognises: Callable[[Path, bytes], Certainty]
    suffixes: tuple[str, ...] = ()
    of_folders: bool = False


HEAD_BYTES = 520  # what a reader sees of a file to recognise it: as far as HDF5's signature behind MATLAB's own header


@dataclass(frozen=True)
class Budget:
    """What reading one raw file may take.

    path           : the raw file, for messages
    image_axes     : stored axes of rows and columns, the outer one first: along one of them slabs will be cut
    memory_bytes   : of which one slab, or a whole unpacked array, may take about a quarter
    scratch_folder : where an array is unpacked that takes more
    threads        : that may unpack side by side
    """

    path: Path
    image_axes: tuple[int, int]
    memory_bytes: int
    scratch_folder: Path
    threads: int = 1


class Stored(Protocol):
    """A 3-D array of numbers in a file.

    shape    : sizes in stored order
    dtype    : type and byte order as stored: integers or floats of at most 64 bit
    chunk    : sizes of the pieces that can only be read whole, in stored order; None: any part can be read
    cut_axes : stored axes along which slabs can be read, an image axis among them; (): the array is packed, it can only
               be read from front to back and has to be unpacked as a whole first
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """See above."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """See above."""

    @property
    def chunk(self) -> tuple[int, int, int] | None:
        """See above."""

    @property
    def cut_axes(self) -> tuple[int, ...]:
        """See above."""

    def opened(self, budget: Budget) -> AbstractContextManager[Slabs]:
        """The array to be read slab by slab: itself where it can be cut, else unpacked, in memory or in a scratch file.

        RawFileError where the budget does not suffice.
        """

    def pick(self, axis: int, where: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        """Values at the crossings of some positions, flat in C order; little more of the file is read than that takes.

        axis  : one of cut_axes, along which one slab is read; without meaning for packed arrays
        where : positions on each stored axis, in any order
        """


class Slabs(Stored, Protocol):
    """A stored array that can be cut along each of its cut_axes."""

    def read(self, axis: int, start: int, stop: int, reuse: np.ndarray | None = None) -> np.ndarray:
        """[start, stop) of one of cut_axes, everything of the other two.

        reuse : what an earlier call returned and nobody needs any more: fresh memory costs as much as filling it
        What is returned is not changed by later calls, unless it is given to one as `reuse`.
        """


@dataclass(frozen=True)
class StoredArray:
    """What a reader gives: an array in file order with what its container says about it. C counts all stored bands.

    axes          : permutation of "yxc": the order of the stored axes
    files         : every file that was read, the named one first
    centres       : band centres of all stored bands in file order, in the file's unit; None: the file does not say
    fwhm          : (C,) widths of all stored bands, or None; fwhm_unit: None is that of the centres
    scale, unit   : stored value times scale = physical value, or None if the container does not say
    gain, offset  : (C,) float64; stored value * gain + offset, before `scale`; None: 1 and 0
    good_bands    : (C,) bool, False for bands that the file calls bad; None: all are good
    ignore_values : stored values that stand for no data
    georeference  : where the image lies on the ground, as it is stored; None: the file does not say
    swapped       : the form takes the container's rows for columns, so the georeference is to be transposed
    rgb           : (rows, columns, 3) picture inside the same file, its axes in the order of the cube's
    """

    array: Stored
    axes: str
    files: tuple[Path, ...]
    centres: Centres | None = None
    fwhm: tuple[float, ...] | None = None
    fwhm_unit: str | None = None
    scale: float | None = None
    unit: str | None = None
    gain: np.ndarray | None = None
    offset: np.ndarray | None = None
    good_bands: np.ndarray | None = None
    ignore_values: tuple[float, ...] = ()
    georeference: Georeference | None = None
    swapped: bool = False
    rgb: Stored | None = None

    @property
    def n_bands(self) -> int:
        """Bands in the file."""
        return self.array.shape[self.axes.index("c")]


@dataclass
class Look:
    """What `hvlabel describe` is told of a file without a descriptor.

    settings   : of a descriptor that reads the file, but for `container`; what is guessed stands in the questions
    holds      : what lies in the file, a line each
    questions  : what a person has to check, a line each
    knows_axes : the container itself says which axis counts rows, columns and bands
    """

    settings: dict[str, Any] = field(default_factory=dict)
    holds: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    knows_axes: bool = False
