"""What makes a Zarr group (a cube, teacher features) trustworthy.

That is its key, and a receipt: the size and checksum of each of its files. Both are kept in its own attributes, and a
seal beside them: a checksum of the file that holds the attributes. Groups of older versions have none; they get one
when a run finds them valid.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google_crc32c

from hvlabel.cache.publish import files_below, publish_bytes
from hvlabel.checksummed import BLANK, FIELD, stamped
from hvlabel.errors import CubeError
from hvlabel.group_file import GROUP_FILE, SEAL, attributes_of
from hvlabel.zarr_files import group_metadata

BLOCK_BYTES = 1 << 20  # hashed at a time: files may be larger than memory


def seal_folder(path: Path, attributes: dict[str, Any], known: dict[str, int]) -> None:
    """Finish a Zarr group: write its attributes and the receipt of all its files.

    known : CRC32Cs of files that need not be read again, by relative path
    """
    receipt = {}
    # sorted: equal groups get equal receipts, whatever order the disk lists them in
    for file in sorted(map(Path, files_below(path))):
        name = str(file.relative_to(path))
        checksum = known[name] if name in known else _crc32c(file)
        receipt[name] = [file.stat().st_size, checksum]
    content = group_metadata({**attributes, "receipt": receipt, SEAL: {FIELD: BLANK}})
    (path / GROUP_FILE).write_bytes(stamped(content))  # last: the receipt does not list it, it has its own seal


def update_attributes(path: Path, change: dict[str, Any]) -> None:
    """Replace some attributes of a Zarr group, atomically, and seal all of them."""
    publish_bytes(path / GROUP_FILE, _sealed(path, change))


def _sealed(path: Path, change: dict[str, Any]) -> bytes:
    """Content of a group's file with some attributes replaced and all of them sealed."""
    group = json.loads((path / GROUP_FILE).read_bytes())
    group["attributes"] |= {**change, SEAL: {FIELD: BLANK}}
    return stamped(json.dumps(group).encode())


def is_cube(path: Path) -> bool:
    """Whether a folder is a cube of ours, finished, of this or an older version."""
    try:
        return "receipt" in read_attributes(path)
    except CubeError:
        return False


def read_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a Zarr group without opening it; CubeError if there are none, or other ones than were sealed."""
    try:
        return attributes_of(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CubeError(f"{path}: no readable cube; run the pipeline again to convert it") from error


def valid_attributes(path: Path, key: str) -> dict[str, Any] | None:
    """Attributes of a Zarr group that has this key and all of its files, else None."""
    try:
        attributes = read_attributes(path)
    except CubeError:
        return None
    if attributes.get("key") != key:
        return None
    return attributes if _damage(path, attributes, deep=False) is None else None


def valid_and_sealed(path: Path, key: str) -> dict[str, Any] | None:
    """The same of a group that gets its seal now, if it is of a version that sealed nothing."""
    attributes = valid_attributes(path, key)
    if attributes is not None and SEAL not in attributes:
        update_attributes(path, {})
    return attributes


def damage(path: Path, *, deep: bool) -> str | None:
    """What is wrong with a Zarr group's files, in a few words, or None.

    deep : read and check them all instead of comparing sizes
    """
    try:
        attributes = read_attributes(path)
    except CubeError:
        return "missing or unreadable"
    return _damage(path, attributes, deep=deep)


def _damage(path: Path, attributes: dict[str, Any], *, deep: bool) -> str | None:
    receipt = attributes.get("receipt")
    if not isinstance(receipt, dict):
        return "unfinished: no receipt"
    for name, (size_bytes, checksum) in receipt.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        n_bytes = file.stat().st_size
        if n_bytes != size_bytes:  # nothing is read for this
            return f"{name} has {n_bytes} bytes instead of {size_bytes}"
        if deep and _crc32c(file) != checksum:
            return f"{name} was changed"
    return None


def _crc32c(path: Path) -> int:
    checksum = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            checksum = google_crc32c.extend(checksum, block)
    return checksum
