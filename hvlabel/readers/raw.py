"""One raw image of any container as an upright (C, H, W) cube with known wavelengths, read strip by strip."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.centres import fwhm_of, wavelengths_of
from hvlabel.readers.contract import Budget, Stored, StoredArray
from hvlabel.readers.georeference import Georeference
from hvlabel.readers.missing import missing_values
from hvlabel.readers.pictures import in_8_bits
from hvlabel.readers.refusals import one_sentence
from hvlabel.readers.sizes import n_values
from hvlabel.readers.slabs import image_axes
from hvlabel.readers.strips import Strip, strips_of
from hvlabel.readers.table import READERS
from hvlabel.readers.upright import Upright

READER_VERSION = 4  # raised by hand when a reader gives other values: part of the key of every cube
MAX_RGB_BYTES = 128 << 20  # it is read in one piece
NO_BOUND_BYTES = 1 << 62  # for what was found small before


@dataclass(frozen=True)
class RawImage:
    """One raw image. C counts the bands kept.

    stored          : the array as it lies in the file
    bands, rows     : indices of the bands and of the stored rows kept
    rot90           : quarter turns counter-clockwise that bring it upright
    wavelengths_nm  : (C,) band centres, in file order, nm
    wavelengths_from: "file" or "descriptor"
    scale           : stored value times scale = physical value, in `unit`
    rgb_rot90       : quarter turns of the picture inside the file, if there is one
    bad_bands       : indices of the bands left out because the file calls them bad
    fwhm_nm         : (C,) band widths, nm, or None
    gain, offset    : (C, 1, 1) float32 that turn what is in the file into the values read, or None: they are the same
    """

    stored: StoredArray
    bands: np.ndarray
    rows: np.ndarray
    rot90: int
    wavelengths_nm: tuple[float, ...]
    wavelengths_from: str
    scale: float
    unit: str
    rgb_rot90: int
    bad_bands: tuple[int, ...] = ()
    fwhm_nm: tuple[float, ...] | None = None
    gain: np.ndarray | None = None
    offset: np.ndarray | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that was read, the named one first."""
        return self.stored.files

    @property
    def upright(self) -> Upright:
        """The way from the stored array to the upright cube."""
        return Upright(self.stored.axes, self.bands, self.rows, self.rot90)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the upright cube."""
        return self.upright.shape(self.stored.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values in this machine's byte order; float32 where gains are applied."""
        if self.gain is not None:
            return np.dtype(np.float32)
        return self.stored.array.dtype.newbyteorder("=")

    @property
    def ignore_values(self) -> tuple[float, ...]:
        """Values that stand for no data, of those that the type holds; where gains are applied they have become NaN."""
        return () if self.gain is not None else self._stored_ignore_values

    @property
    def georeference(self) -> Georeference | None:
        """Place of the upright image; None where the file does not say, or where rows are missing inside."""
        place = self.stored.georeference
        first_row = int(self.rows[0])
        last_row = int(self.rows[-1])
        n_rows = len(self.rows)
        if place is None or last_row - first_row + 1 != n_rows:  # with rows missing inside no affine transform fits
            return None
        if self.stored.swapped:  # before anything is cut or turned: these follow the form's rows
            place = place.transposed()
        n_columns = self.stored.array.shape[self.stored.axes.index("x")]
        return place.upright(n_rows, n_columns, self.rot90, first_row)

    def strips(self, side_px: int, memory_bytes: int, scratch_folder: Path, threads: int = 1) -> Iterator[Strip]:
        """The cube in strips whose first row or column and, but for the last, whose thickness is a multiple of side_px.

        All strips lie along the same axis, the one that suits the file. At most about half of memory_bytes is used for
        one strip and its predecessor; what can only be read from front to back and exceeds a quarter is unpacked into a
        file in scratch_folder first. threads: for unpacking HDF5 chunks. A strip is overwritten when the next but one
        is asked for. RawFileError where the file turns out to be damaged.
        """
        path = self.files[0]
        budget = Budget(path, image_axes(self.stored.axes), memory_bytes, scratch_folder, threads)
        with one_sentence(path), self.stored.array.opened(budget) as slabs:
            yield from strips_of(path, slabs, self.upright, self._measured, side_px, memory_bytes)

    def read(self) -> np.ndarray:
        """The whole (C, H, W) cube in memory."""
        whole = np.empty(self.shape, self.dtype)
        memory_bytes = 4 * whole.nbytes + (1 << 30)  # enough for whatever is packed to be unpacked in memory
        with tempfile.TemporaryDirectory() as scratch:
            for strip in self.strips(1, memory_bytes, Path(scratch)):
                strip.part_of(whole)[...] = strip.values
        return whole

    def inner_rgb(self) -> np.ndarray | None:
        """(H, W, 3) uint8 picture inside the file, or None; see pictures.in_8_bits."""
        array, axes, path = self.stored.rgb, self.stored.axes, self.files[0]
        if array is None:
            return None
        _require_picture(path, array, axes)  # small, so that it may be read as a whole
        budget = Budget(path, image_axes(axes), NO_BOUND_BYTES, path.parent)
        with one_sentence(path), array.opened(budget) as slabs:
            stored = slabs.read(0, 0, slabs.shape[0])
            order = [axes.index(letter) for letter in "yxc"]
            values = stored.transpose(order)  # (H, W, 3)
        return in_8_bits(np.rot90(values, self.rgb_rot90))

    @property
    def _stored_ignore_values(self) -> tuple[float, ...]:
        dtype = self.stored.array.dtype
        return tuple(v for v in self.stored.ignore_values if math.isfinite(v) and _fits(v, dtype))

    def _measured(self, cube: np.ndarray) -> np.ndarray:
        """(C, rows, columns) with gains and offsets applied, as float32; what stands for no data becomes NaN."""
        if self.gain is None or self.offset is None:
            return cube
        missing = missing_values(cube, self._stored_ignore_values)  # a gain would make numbers of them
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is counted as not finite later
            values = cube.astype(np.float32)
        if missing is not None:
            values[missing] = np.nan
        values *= self.gain
        values += self.offset
        return values


def open_raw(path: Path | str, form: Form) -> RawImage:
    """The image of a raw file; RawFileError says in one sentence what is wrong with it.

    Only headers are read. Wavelengths are the descriptor's or the file's, as form.wavelengths_first says where both
    name them; the descriptor's number must equal that of the bands kept, the file's that of all stored bands.
    """
    path = Path(path)
    stored = read_stored(path, form)
    n_bands = stored.n_bands
    n_rows = stored.array.shape[stored.axes.index("y")]
    not_dropped = np.setdiff1d(np.arange(n_bands), form.drop_bands)
    rows = np.setdiff1d(np.arange(n_rows), form.drop_rows)
    if not len(not_dropped) or not len(rows):
        raise RawFileError(f"{path}: drop_bands or drop_rows leave nothing of {stored.array.shape}; correct them")
    is_good = np.ones(n_bands, bool) if stored.good_bands is None else stored.good_bands
    bands = not_dropped[is_good[not_dropped]]
    if not len(bands):
        raise RawFileError(f"{path}: its bad band list leaves no band; mend it, or set descriptor.bad_bands: keep")
    bad_bands = not_dropped[~is_good[not_dropped]]
    # before anything is read: an image without believable centres is refused by its header
    wavelengths_nm, origin = wavelengths_of(path, form, stored, not_dropped, bands)
    return RawImage(
        stored=stored,
        bands=bands,
        rows=rows,
        bad_bands=tuple(int(k) for k in bad_bands),
        rot90=form.rot90,
        wavelengths_nm=wavelengths_nm,
        wavelengths_from=origin,
        fwhm_nm=fwhm_of(stored, bands),
        scale=form.scale or stored.scale or 1.0,  # what the form says goes first
        unit=form.unit or stored.unit or "counts",
        gain=_as_column(stored.gain, bands),
        offset=_as_column(stored.offset, bands),
        rgb_rot90=form.rgb_rot90,
    )


def read_stored(path: Path, form: Form) -> StoredArray:
    """What lies in a raw file, as it lies there; RawFileError says in one sentence what is wrong with it."""
    reader = READERS[form.container]
    exists = path.is_dir() if reader.of_folders else path.is_file()
    if not exists:
        kind = "folder" if reader.of_folders else "file"
        raise RawFileError(f"{path}: no such {kind}; run the scan again or restore it")
    with one_sentence(path, form.container):
        return reader.read(path, form)


def raw_sha256(files: tuple[Path, ...]) -> str:
    """sha256 over the contents of the files in order: the identity of a raw image."""
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb", buffering=0) as file:
                hashlib.file_digest(file, lambda: digest)  # goes on with one digest, where a name would begin another
        except OSError as error:
            raise RawFileError(
                f"{path}: cannot be read ({error.strerror}); restore it or check its permissions"
            ) from error
    return digest.hexdigest()


def _as_column(values: np.ndarray | None, bands: np.ndarray) -> np.ndarray | None:
    """(C, 1, 1) float32 of the bands kept, to be broadcast over a cube."""
    if values is None:
        return None
    kept = values[bands].astype(np.float32)
    return kept[:, None, None]


def _require_picture(path: Path, array: Stored, axes: str) -> None:
    """RawFileError unless an array is a picture of three colours that fits into memory."""
    if array.shape[axes.index("c")] != 3:
        raise RawFileError(
            f"{path}: the RGB picture has shape {array.shape}, expected three colours on the axis of the bands; "
            "correct descriptor.rgb_variable"
        )
    if n_values(array.shape) * array.dtype.itemsize > MAX_RGB_BYTES:
        raise RawFileError(f"{path}: the RGB picture is larger than {MAX_RGB_BYTES >> 20} MiB; leave it out")


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    """Whether a type can hold a value."""
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    is_whole = value == int(value)
    return is_whole and limits.min <= value <= limits.max
