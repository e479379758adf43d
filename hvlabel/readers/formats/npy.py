"""NumPy .npy and .npz files; pickled objects are refused."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.arrays import FileArray, Packed
from hvlabel.readers.contract import Certainty, Look, StoredArray
from hvlabel.readers.guesses import describe_array, square
from hvlabel.readers.named.cube import read_cube
from hvlabel.readers.named.look import look_at_variables
from hvlabel.readers.named.variable import Variable
from hvlabel.readers.refusals import one_sentence
from hvlabel.readers.sizes import n_values, require_plausible

NPY_MAGIC, ZIP_MAGIC = b"\x93NUMPY", b"PK\x03\x04"
ZIP_SIGNATURE = ZIP_MAGIC[:2]  # an empty archive goes on otherwise
BLOCK_BYTES = 4 << 20
ONLY_ARRAY = "the array"


def read(path: Path, form: Form) -> StoredArray:
    """The cube of a .npy file or of one array in a .npz file, told apart by signature."""
    if _is_zip(path):
        return read_cube(path, form, _members(path))
    header = _npy_header(path)
    expected = header.offset + header.n_bytes
    n_bytes = path.stat().st_size
    if n_bytes != expected and not header.holds_objects:  # pickles have any length, and are refused by their type
        likely = "truncated" if n_bytes < expected else "damaged, or several arrays were saved into it"
        raise RawFileError(
            f"{path}: {n_bytes} bytes, but the header promises {expected}; the file is {likely}, copy it again"
        )

    def array(cube_shape: tuple[int, int, int]) -> FileArray:
        return FileArray(path, header.dtype, cube_shape, header.offset)

    def flat() -> np.ndarray:
        return np.fromfile(path, header.dtype, offset=header.offset)

    only = Variable(header.shape, header.kind, header.fortran_order, array, flat)
    # whatever variable the form names: there is only one
    of_only = form.model_copy(update={"variable": ONLY_ARRAY})
    return read_cube(path, of_only, {ONLY_ARRAY: only})


def look(path: Path) -> Look:
    """Of several arrays as of other files that hold such; of one array, or of a matrix whose pixels may be a square."""
    if _is_zip(path):
        return look_at_variables(path, _members(path))
    look = Look()
    try:
        with one_sentence(path, "npy"):
            stored = read(path, Form(container="npy"))
    except RawFileError:
        shape = square(_npy_header(path).shape)  # the one cause that can be guessed away: a matrix
        if shape is None:
            raise
        look.settings["shape"] = list(shape)
        look.questions.append(
            f"is this a matrix of bands and of the pixels of {shape[0]} rows and {shape[1]} columns? "
            "Else correct `shape`"
        )
        stored = read(path, Form(container="npy", shape=shape))
    # sizes as NumPy shows them, since people compare them with what they know
    first, second, third = stored.array.shape
    # a Fortran-ordered array lies in the reverse of its own axes
    sizes = (third, second, first) if stored.axes == "cxy" else (first, second, third)
    describe_array(look, stored, sizes)
    return look


def recognises(path: Path, head: bytes) -> Certainty:
    """By the signatures of .npy files and of archives."""
    return Certainty.MAGIC if head.startswith((NPY_MAGIC, ZIP_MAGIC)) else Certainty.NONE


@dataclass(frozen=True)
class _Header:
    """What stands before the values of one array. offset: bytes before the first value."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def n_bytes(self) -> int:
        """Of the values."""
        return n_values(self.shape) * self.dtype.itemsize

    @property
    def holds_objects(self) -> bool:
        """Whether its values are pickled, and may run code when they are read."""
        return self.dtype.kind == "O"

    @property
    def kind(self) -> str:
        """Name of the type."""
        return "object" if self.holds_objects else str(self.dtype)


@dataclass(frozen=True)
class _Member:
    """One array of an archive."""

    path: Path
    info: zipfile.ZipInfo
    header: _Header

    def array(self, cube_shape: tuple[int, int, int]) -> Packed:
        """See Variable."""
        self._require_plausible()
        return Packed(cube_shape, self.header.dtype, self._blocks)

    def flat(self) -> np.ndarray:
        """See Variable."""
        self._require_plausible()
        return np.concatenate([*self._blocks()])

    def _require_plausible(self) -> None:
        what = f"array {self.info.filename!r}"
        header = self.header
        require_plausible(self.path, what, header.shape, header.dtype.itemsize, self.info.compress_size)

    def _blocks(self) -> Iterator[np.ndarray]:
        dtype = self.header.dtype
        with zipfile.ZipFile(self.path) as archive, archive.open(self.info) as member:
            _parse(self.path, self.info.filename, member)  # to get behind the header
            rest = b""  # of a value that a block cuts in two
            while True:
                block = member.read(BLOCK_BYTES)  # the last read checks the member's CRC
                if not block:
                    return
                block = rest + block
                n_whole = len(block) - len(block) % dtype.itemsize  # bytes of whole values
                yield np.frombuffer(block[:n_whole], dtype)
                rest = block[n_whole:]


def _is_zip(path: Path) -> bool:
    """Whether the file is an archive of arrays (.npz)."""
    with path.open("rb") as file:
        return file.read(len(ZIP_SIGNATURE)) == ZIP_SIGNATURE


def _npy_header(path: Path) -> _Header:
    with path.open("rb") as file:
        return _parse(path, "the array", file)


def _members(path: Path) -> dict[str, Variable]:
    """All arrays of a .npz file; only their headers are read."""
    members = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue  # an archive may hold anything
            # others unpack through modules that Python may lack
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise RawFileError(
                    f"{path}: {info.filename} is packed by method {info.compress_type}, NumPy packs by deflate; "
                    "save it again by NumPy"
                )
            with archive.open(info) as file:
                header = _parse(path, info.filename, file)
            member = _Member(path, info, header)
            name = info.filename.removesuffix(".npy")
            members[name] = Variable(header.shape, header.kind, header.fortran_order, member.array, member.flat)
    return members


def _parse(path: Path, what: str, file: IO[bytes]) -> _Header:
    """The header at the start of an open file, which is left at the first value. path, what: for messages."""
    try:
        version = np.lib.format.read_magic(file)
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = parse(file)
    except (ValueError, SyntaxError, EOFError, zipfile.BadZipFile) as error:
        raise RawFileError(
            f"{path}: {what} has no NumPy header ({' '.join(str(error).split())[:80]}); "
            "it is damaged or of another format: copy it again"
        ) from error
    if any(n < 0 for n in shape):
        raise RawFileError(f"{path}: {what} has shape {shape}, expected sizes of 0 or more; copy it again")
    return _Header(shape, fortran_order, dtype, file.tell())
