"""What makes a cube trustworthy: its key, and the size and checksum of each of its files, kept in its own attributes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google_crc32c
import zarr

from hvlabel.cache.publish import publish_bytes
from hvlabel.errors import CubeError

GROUP_FILE = "zarr.json"  # holds the receipt itself and is written last


def seal_folder(path: Path, attributes: dict[str, Any], known: dict[str, int]) -> None:
    """Finish a Zarr group: its attributes and the receipt of all its files. known: CRC32Cs of files, by relative path."""
    receipt = {
        name: [p.stat().st_size, known[name] if name in known else _crc32c(p)]
        for name, p in ((str(p.relative_to(path)), p) for p in _content(path))
    }
    zarr.open_group(path, mode="r+").attrs.update({**attributes, "receipt": receipt})


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


def damage(path: Path, *, deep: bool) -> str | None:
    """What is wrong with a cube's files, in a few words, or None. deep: read and check them all instead of comparing sizes."""
    try:
        attributes = read_attributes(path)
    except CubeError:
        return "missing or unreadable"
    receipt = attributes.get("receipt")
    if not isinstance(receipt, dict):
        return "unfinished: no receipt"
    present = {str(p.relative_to(path)): p for p in _content(path)}
    for name, (size, checksum) in receipt.items():
        if name not in present:
            return f"{name} is missing"
        if present[name].stat().st_size != size:
            return f"{name} has {present[name].stat().st_size} bytes instead of {size}"
        if deep and _crc32c(present[name]) != checksum:
            return f"{name} was changed"
    return None


def _content(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file() and p != path / GROUP_FILE)


def _crc32c(path: Path) -> int:
    checksum = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(1 << 20):
            checksum = google_crc32c.extend(checksum, block)
    return checksum
