"""MATLAB files: v7.3, which is HDF5, by the HDF5 reader, v5 by `matlab_v5`; told apart by signature."""

from __future__ import annotations

from pathlib import Path

from hvlabel.descriptors import Form
from hvlabel.readers.contract import HEAD_BYTES, Certainty, Look, StoredArray
from hvlabel.readers.formats import hdf5, matlab_v5
from hvlabel.readers.named.cube import read_cube
from hvlabel.readers.named.look import look_at_variables
from hvlabel.readers.named.variable import Variable


def read(path: Path, form: Form) -> StoredArray:
    """The cube of a .mat file. The form's axes are MATLAB's; the bytes of both versions lie in the reverse order."""
    return read_cube(path, form, variables(path))


def look(path: Path) -> Look:
    """See named.look."""
    return look_at_variables(path, variables(path))


def recognises(path: Path, head: bytes) -> Certainty:
    """HDF5 that MATLAB wrote, by its header or suffix; v5 by its mark alone, since its header begins with any text."""
    if hdf5.is_hdf5(head):
        is_matlab = path.suffix.lower() == ".mat" or head.startswith(b"MATLAB")
        return Certainty.SIGNATURE if is_matlab else Certainty.NONE
    has_mark = matlab_v5.byte_order(head) is not None
    return Certainty.MARK if has_mark else Certainty.NONE


def variables(path: Path) -> dict[str, Variable]:
    """All variables of the file; of v5 files only the headers are read and unpacked."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if hdf5.is_hdf5(head):
        return hdf5.variables(path, reversed_axes=True)
    return matlab_v5.variables(path)
