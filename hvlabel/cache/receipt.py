"""What makes a Zarr group (a cube, teacher features) trustworthy.

That is its key, and a receipt: the size and checksum of each of its files. Both are kept in its own attributes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google_crc32c
import zarr

from hvlabel.cache.publish import publish_bytes
from hvlabel.errors import CubeError

GROUP_FILE = "zarr.json"  # holds the receipt itself and is written last
BLOCK_BYTES = 1 << 20  # hashed at a time: files may be larger than memory


def seal_folder(path: Path, attributes: dict[str, Any], known: dict[str, int]) -> None:
    """Finish a Zarr group: write its attributes and the receipt of all its files.

    known : CRC32Cs of files that need not be read again, by relative path
    """
    receipt = {}
    for file in _content(path):
        name = str(file.relative_to(path))
        checksum = known[name] if name in known else _crc32c(file)
        receipt[name] = [file.stat().st_size, checksum]
    zarr.open_group(path, mode="r+", zarr_format=3).attrs.update({**attributes, "receipt": receipt})


def update_attributes(path: Path, change: dict[str, Any]) -> None:
    """Replace some attributes of a cube, atomically."""
    group = json.loads((path / GROUP_FILE).read_bytes())
    group["attributes"].update(change)
    publish_bytes(path / GROUP_FILE, json.dumps(group).encode())


def is_cube(path: Path) -> bool:
    """Whether a folder is a cube of ours, finished, of this or an older version."""
    try:
        return "receipt" in read_attributes(path)
    except CubeError:
        return False


def read_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a Zarr group without opening it; CubeError if there is none."""
    try:
        attributes = json.loads((path / GROUP_FILE).read_bytes())["attributes"]
    except (OSError, ValueError, KeyError) as error:
        raise CubeError(f"{path}: no readable cube; run the pipeline again to convert it") from error
    return dict(attributes)


def valid_attributes(path: Path, key: str) -> dict[str, Any] | None:
    """Attributes of a Zarr group that has this key and all of its files, else None."""
    try:
        attributes = read_attributes(path)
    except CubeError:
        return None
    if attributes.get("key") != key:
        return None
    return attributes if _damage(path, attributes, deep=False) is None else None


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
    present = {str(p.relative_to(path)): p for p in _content(path)}
    for name, (size_bytes, checksum) in receipt.items():
        if name not in present:
            return f"{name} is missing"
        found_bytes = present[name].stat().st_size
        if found_bytes != size_bytes:
            return f"{name} has {found_bytes} bytes instead of {size_bytes}"
        if deep and _crc32c(present[name]) != checksum:
            return f"{name} was changed"
    return None


def _content(path: Path) -> list[Path]:
    """Every file of a group but the one that holds the receipt itself."""
    return sorted(p for p in path.rglob("*") if p.is_file() and p != path / GROUP_FILE)


def _crc32c(path: Path) -> int:
    checksum = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            checksum = google_crc32c.extend(checksum, block)
    return checksum
