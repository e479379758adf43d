"""NumPy .npy and .npz files; pickled objects are refused."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.stored import FileArray, Packed, StoredArray, require_plausible
from hvlabel.readers.variables import Variable, read_cube

ZIP_SIGNATURE = b"PK"
BLOCK_BYTES = 4 << 20
ONLY_ARRAY = "the array"


def read(path: Path, form: Form) -> StoredArray:
    """The cube of a .npy file or of one array in a .npz file, told apart by signature."""
    if is_zip(path):
        return read_cube(path, form, variables(path))
    shape, fortran, dtype, offset = npy_header(path)
    expected = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    size = path.stat().st_size
    if size != expected and dtype.kind != "O":
        likely = "truncated" if size < expected else "damaged, or several arrays were saved into it"
        raise RawFileError(
            f"{path}: {size} bytes, but the header promises {expected}; the file is {likely}, copy it again"
        )

    def array(cube_shape: tuple[int, int, int]) -> FileArray:
        return FileArray(path, dtype, cube_shape, offset)

    def flat() -> np.ndarray:
        return np.fromfile(path, dtype, offset=offset)

    only = Variable(shape, str(dtype) if dtype.kind != "O" else "object", fortran, array, flat)
    return read_cube(path, form.model_copy(update={"variable": ONLY_ARRAY}), {ONLY_ARRAY: only})


def is_zip(path: Path) -> bool:
    """Whether the file is an archive of arrays (.npz)."""
    with path.open("rb") as file:
        return file.read(2) == ZIP_SIGNATURE


def npy_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """(shape, Fortran order, dtype, offset of the values) of a .npy file."""
    with path.open("rb") as file:
        return (*_parse(path, "the array", file), file.tell())


def variables(path: Path) -> dict[str, Variable]:
    """All arrays of a .npz file; only their headers are read."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise RawFileError(
                    f"{path}: {info.filename} is packed by method {info.compress_type}, NumPy packs by deflate; save it again by NumPy"
                )
            with archive.open(info) as member:
                shape, fortran, dtype = _parse(path, info.filename, member)
            found[info.filename.removesuffix(".npy")] = _variable(path, info, shape, fortran, dtype)
    return found


def _variable(
    path: Path, info: zipfile.ZipInfo, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]
) -> Variable:
    def check() -> None:
        require_plausible(path, f"array {info.filename!r}", shape, dtype.itemsize, info.compress_size)

    def blocks() -> Iterator[np.ndarray]:
        with zipfile.ZipFile(path) as archive, archive.open(info) as member:
            _parse(path, info.filename, member)
            rest = b""
            while block := member.read(BLOCK_BYTES):  # the last read checks the member's CRC
                block = rest + block
                whole = len(block) - len(block) % dtype.itemsize
                yield np.frombuffer(block[:whole], dtype)
                rest = block[whole:]

    def array(cube_shape: tuple[int, int, int]) -> Packed:
        check()
        return Packed(cube_shape, dtype, blocks)

    def flat() -> np.ndarray:
        check()
        return np.concatenate([*blocks()])

    return Variable(shape, str(dtype) if dtype.kind != "O" else "object", fortran, array, flat)


def _parse(path: Path, what: str, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(file)
    except (ValueError, SyntaxError, EOFError, zipfile.BadZipFile) as error:
        raise RawFileError(
            f"{path}: {what} has no NumPy header ({' '.join(str(error).split())[:80]}); it is damaged or of another format: copy it again"
        ) from error
    if any(n < 0 for n in shape):
        raise RawFileError(f"{path}: {what} has shape {shape}, expected sizes of 0 or more; copy it again")
    return shape, fortran, dtype
