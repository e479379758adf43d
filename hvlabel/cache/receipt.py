"""What makes a cube trustworthy: its key, and the size and hash of each of its files, kept in its own attributes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import zarr

from hvlabel.errors import CubeError

GROUP_FILE = "zarr.json"  # holds the receipt itself and is written last


def seal_folder(path: Path, seconds: float) -> None:
    """Add the receipt of all files, and how long they took, to the attributes of a finished Zarr group."""
    files: Any = {str(p.relative_to(path)): [p.stat().st_size, _sha256(p)] for p in _content(path)}
    zarr.open_group(path, mode="r+").attrs.update({"receipt": files, "seconds": seconds})


def read_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a Zarr group without opening it; CubeError if there is none."""
    try:
        attributes = json.loads((path / GROUP_FILE).read_bytes())["attributes"]
    except (OSError, ValueError, KeyError) as error:
        raise CubeError(f"{path}: no readable cube; run the pipeline again to convert it") from error
    return dict(attributes)


def damage(path: Path, *, deep: bool) -> str | None:
    """What is wrong with a cube's files, in a few words, or None. deep: read and hash them all instead of comparing sizes."""
    try:
        attributes = read_attributes(path)
    except CubeError:
        return "missing or unreadable"
    receipt = attributes.get("receipt")
    if not isinstance(receipt, dict):
        return "unfinished: no receipt"
    present = {str(p.relative_to(path)): p for p in _content(path)}
    for name, (size, digest) in receipt.items():
        if name not in present:
            return f"{name} is missing"
        if present[name].stat().st_size != size:
            return f"{name} has {present[name].stat().st_size} bytes instead of {size}"
        if deep and _sha256(present[name]) != digest:
            return f"{name} was changed"
    return None


def _content(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file() and p != path / GROUP_FILE)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
