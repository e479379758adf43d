"""One raw image of any container as an upright (C, H, W) cube with known wavelengths, read strip by strip."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers import envi, hdf5, hsd, matlab, netcdf, npy, pictures, tiff
from hvlabel.readers.centres import fwhm_of, wavelengths_of
from hvlabel.readers.georeference import Georeference
from hvlabel.readers.missing import missing_values
from hvlabel.readers.refusals import one_sentence
from hvlabel.readers.slabs import readable, slab_axis, slab_thickness
from hvlabel.readers.stored import Packed, Slabs, StoredArray, unpack

READER_VERSION = 4
READERS: dict[str, Callable[[Path, Form], StoredArray]] = {
    "band_png": pictures.read_bands,
    "envi": envi.read,
    "hdf5": hdf5.read,
    "hsd": hsd.read,
    "matlab": matlab.read,
    "mosaic_png": pictures.read_mosaic,
    "netcdf": netcdf.read,
    "npy": npy.read,
    "tiff": tiff.read,
}
# what quarter turns do: whether a stored image axis is walked backwards to go forwards in the upright image
BACKWARDS = {0: "", 1: "x", 2: "xy", 3: "y"}
MAX_RGB_BYTES = 128 << 20


@dataclass(frozen=True)
class Strip:
    """A strip of an upright cube across its whole height or width.

    axis   : 1 if it is a range of rows, 2 if it is a range of columns
    start  : first row or column
    values : (C, rows, columns), any memory order, byte order as stored
    """

    axis: int
    start: int
    values: np.ndarray


@dataclass(frozen=True)
class RawImage:
    """One raw image.

    stored          : the array as it lies in the file
    bands, rows     : indices of the bands and of the stored rows kept
    rot90           : quarter turns counter-clockwise that bring it upright
    wavelengths_nm  : (C,) band centres of the bands kept, in file order, nm
    wavelengths_from: "file" or "descriptor"
    scale           : stored value times scale = physical value, in `unit`
    rgb_rot90       : the same for the picture inside the file, if there is one
    bad_bands       : indices of the bands left out because the file calls them bad
    fwhm_nm         : (C,) widths of the bands kept, nm, or None
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
    def dtype(self) -> np.dtype[Any]:
        """Type of the values in this machine's byte order; float32 where gains are applied."""
        return np.dtype(np.float32) if self.gain is not None else self.stored.array.dtype.newbyteorder("=")

    @property
    def ignore_values(self) -> tuple[float, ...]:
        """Values that stand for no data, of those that the type can hold; where gains are applied they have become NaN."""
        return () if self.gain is not None else self._stored_ignore_values

    @property
    def _stored_ignore_values(self) -> tuple[float, ...]:
        dtype = self.stored.array.dtype
        return tuple(v for v in self.stored.ignore_values if math.isfinite(v) and _fits(v, dtype))

    @property
    def georeference(self) -> Georeference | None:
        """Place of the upright image; None where the file does not say, or where rows are missing inside."""
        place = self.stored.georeference
        first, n_rows = int(self.rows[0]), len(self.rows)
        if place is None or int(self.rows[-1]) - first + 1 != n_rows:
            return None
        n_columns = self.stored.array.shape[self.stored.axes.index("x")]
        if self.stored.swapped:
            place = place.transposed()
        return place.upright(n_rows, n_columns, self.rot90, first)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the upright cube."""
        n_columns = self.stored.array.shape[self.stored.axes.index("x")]
        sides = (len(self.rows), n_columns) if self.rot90 % 2 == 0 else (n_columns, len(self.rows))
        return (len(self.bands), *sides)

    def strips(self, side_px: int, memory_bytes: int, scratch_folder: Path, threads: int = 1) -> Iterator[Strip]:
        """The cube in strips whose first row or column and, but for the last, whose thickness is a multiple of side_px.

        All strips lie along the same axis, the one that suits the file. At most about half of memory_bytes is used for
        one strip and its predecessor; what can only be read from front to back and exceeds a quarter is unpacked into a
        file in scratch_folder first. threads: for unpacking HDF5 chunks. A strip is overwritten when the next but one is
        asked for. RawFileError where the file turns out to be damaged.
        """
        with one_sentence(self.files[0]), readable(self.stored, memory_bytes, scratch_folder, threads) as array:
            yield from self._strips(array, side_px, memory_bytes)

    def inner_rgb(self) -> np.ndarray | None:
        """(H, W, 3) uint8 picture inside the file, or None.

        Integers are shifted until the largest fits 8 bits. Floats whose largest is up to 2 are shares of white, up to 255 they
        are taken as they are; larger ones are divided by the largest.
        """
        array, path = self.stored.rgb, self.files[0]
        if array is None:
            return None
        if array.shape[self.stored.axes.index("c")] != 3:
            raise RawFileError(
                f"{path}: the RGB picture has shape {array.shape}, expected three colours on the axis of the bands; correct descriptor.rgb_variable"
            )
        if math.prod(array.shape) * array.dtype.itemsize > MAX_RGB_BYTES:
            raise RawFileError(f"{path}: the RGB picture is larger than {MAX_RGB_BYTES >> 20} MiB; leave it out")
        with one_sentence(path):
            slabs = unpack(array, path, None) if isinstance(array, Packed) else array
            values = slabs.read(0, 0, slabs.shape[0]).transpose([self.stored.axes.index(a) for a in "yxc"])
        values = np.rot90(values, self.rgb_rot90)
        if values.dtype.kind in "ui":
            shift = max(0, int(values.max()).bit_length() - 8)
            return np.ascontiguousarray(np.clip(values, 0, None) >> shift).astype(np.uint8)
        clean = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
        largest = float(clean.max())
        white = 1.0 if largest <= 2 else max(largest, 255.0)
        return np.clip(clean * (255 / white) + 0.5, 0, 255).astype(np.uint8)

    def read(self) -> np.ndarray:
        """The whole (C, H, W) cube in memory."""
        whole = np.empty(self.shape, self.dtype)
        with tempfile.TemporaryDirectory() as scratch:
            for strip in self.strips(1, 4 * whole.nbytes + (1 << 30), Path(scratch)):
                _part(whole, strip)[...] = strip.values
        return whole

    def _strips(self, array: Slabs, side_px: int, memory_bytes: int) -> Iterator[Strip]:
        axes = self.stored.axes
        letter = slab_axis(array, axes)
        axis = axes.index(letter)
        backwards = letter in BACKWARDS[self.rot90]
        final_axis = 1 if (letter == "y") == (self.rot90 % 2 == 0) else 2
        thickness = slab_thickness(self.files[0], array, axis, side_px, memory_bytes)
        starts = range(0, array.shape[axis], thickness)
        carried: np.ndarray | None = None
        lent: np.ndarray | None = None  # slab that the last strip is a view of
        spare: np.ndarray | None = None  # slab that no strip needs any more
        done = 0
        for start in reversed(starts) if backwards else starts:
            stop = min(start + thickness, array.shape[axis])
            slab = array.read(axis, start, stop, reuse=spare)
            block = self._measured(self._upright(slab, letter, start, stop))
            if carried is not None:
                block = np.concatenate([carried, block], axis=final_axis)
            whole = block.shape[final_axis] - block.shape[final_axis] % side_px
            strip, carried = np.split(block, [whole], axis=final_axis)
            if whole:
                yield Strip(final_axis, done, strip)
                done += whole
            carried = carried.copy() if carried.shape[final_axis] else None
            if whole and np.may_share_memory(block, slab):
                spare, lent = lent, slab
            else:  # copied; the strip before, if it is a view, is done with once this one was taken
                spare, lent = slab, None if whole else lent
        if carried is not None:
            yield Strip(final_axis, done, carried)

    def _measured(self, cube: np.ndarray) -> np.ndarray:
        """(C, rows, columns) with gains and offsets applied, as float32; what stands for no data becomes NaN."""
        if self.gain is None or self.offset is None:
            return cube
        missing = missing_values(cube, self._stored_ignore_values)  # a gain would make numbers of them
        with np.errstate(over="ignore", invalid="ignore"):
            values = cube.astype(np.float32)
        if missing is not None:
            values[missing] = np.nan
        values *= self.gain
        values += self.offset
        return values

    def _upright(self, block: np.ndarray, letter: str, start: int, stop: int) -> np.ndarray:
        """(C, rows, columns) view or copy of a stored slab with dropped bands and rows gone, turned upright."""
        cube = block.transpose([self.stored.axes.index(a) for a in "cyx"])
        if len(self.bands) != cube.shape[0]:
            first, last = int(self.bands[0]), int(self.bands[-1])
            cube = cube[first : last + 1] if last - first + 1 == len(self.bands) else cube[self.bands]
        first_row, n_rows = (start, stop - start) if letter == "y" else (0, cube.shape[1])
        kept = self.rows[(self.rows >= first_row) & (self.rows < first_row + n_rows)] - first_row
        if len(kept) != n_rows:
            cube = cube[:, kept]
        return np.rot90(cube, self.rot90, axes=(1, 2))


def open_raw(path: Path, form: Form) -> RawImage:
    """The image of a raw file; RawFileError says in one sentence what is wrong with it.

    Only headers are read. Wavelengths are the descriptor's or the file's, as form.wavelengths_first says where both name
    them; the descriptor's number must equal that of the bands kept, the file's that of all stored bands.
    """
    stored = read_stored(path, form)
    sizes = dict(zip(stored.axes, stored.array.shape, strict=True))
    wanted = np.setdiff1d(np.arange(sizes["c"]), form.drop_bands)
    good = np.ones(sizes["c"], bool) if stored.good_bands is None else stored.good_bands
    bands = wanted[good[wanted]]
    rows = np.setdiff1d(np.arange(sizes["y"]), form.drop_rows)
    if not len(wanted) or not len(rows):
        raise RawFileError(f"{path}: drop_bands or drop_rows leave nothing of {stored.array.shape}; correct them")
    if not len(bands):
        raise RawFileError(f"{path}: its bad band list leaves no band; mend it, or set descriptor.bad_bands: keep")
    wavelengths_nm, origin = wavelengths_of(path, form, stored, wanted, bands)
    column = (slice(None), None, None)
    return RawImage(
        stored=stored,
        bands=bands,
        rows=rows,
        bad_bands=tuple(int(k) for k in wanted[~good[wanted]]),
        rot90=form.rot90,
        wavelengths_nm=wavelengths_nm,
        wavelengths_from=origin,
        fwhm_nm=fwhm_of(stored, bands),
        scale=form.scale or stored.scale or 1.0,
        unit=form.unit or stored.unit or "counts",
        gain=None if stored.gain is None else stored.gain[bands].astype(np.float32)[column],
        offset=None if stored.offset is None else stored.offset[bands].astype(np.float32)[column],
        rgb_rot90=form.rgb_rot90,
    )


def read_stored(path: Path, form: Form) -> StoredArray:
    """What lies in a raw file, as it lies there; RawFileError says in one sentence what is wrong with it."""
    if not (path.is_dir() if form.is_folder else path.is_file()):
        raise RawFileError(
            f"{path}: no such {'folder' if form.is_folder else 'file'}; run the scan again or restore it"
        )
    with one_sentence(path, form.container):
        return READERS[form.container](path, form)


def raw_sha256(files: tuple[Path, ...]) -> str:
    """sha256 over the contents of the files in order: the identity of a raw image."""
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb", buffering=0) as file:
                hashlib.file_digest(file, lambda: digest)
        except OSError as error:
            raise RawFileError(
                f"{path}: cannot be read ({error.strerror}); restore it or check its permissions"
            ) from error
    return digest.hexdigest()


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    """Whether a type can hold a value."""
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return value == int(value) and limits.min <= value <= limits.max


def _part(whole: np.ndarray, strip: Strip) -> np.ndarray:
    stop = strip.start + strip.values.shape[strip.axis]
    return whole[:, strip.start : stop] if strip.axis == 1 else whole[:, :, strip.start : stop]
