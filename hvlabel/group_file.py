"""What describes a Zarr group of ours, a cube or teacher features: its attributes and its arrays' metadata, checked.

A wrong wavelength or scale changes every result and looks like a good one. So the attributes are sealed by a checksum
of the file that holds them, and the metadata of the arrays by the receipt among them: both are compared whenever a
group is opened.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google_crc32c

from hvlabel.checksummed import is_whole
from hvlabel.errors import CubeError

GROUP_FILE = "zarr.json"  # of the group: holds attributes, receipt and seal, and is written last
SEAL = "seal"  # of the attributes: holds the checksum


def attributes_of(path: Path) -> dict[str, Any]:
    """Attributes of a Zarr group without opening it.

    CubeError if they are not as they were sealed; OSError, ValueError, KeyError or TypeError if there is no such group.
    Groups of versions that sealed nothing are taken as they are.
    """
    content = (path / GROUP_FILE).read_bytes()
    attributes = dict(json.loads(content)["attributes"])
    whole = is_whole(content)
    if whole is False or (whole is None and SEAL in attributes):
        raise CubeError(
            f"{path}: its attributes in {GROUP_FILE} are not as they were sealed: damaged, or changed by hand; delete "
            f"{path.name} and run again to make it anew"
        )
    return attributes


def array_metadata(path: Path, name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Metadata of an array of a group; errors as of `attributes_of`. attributes: of the group."""
    file = f"{name}/{GROUP_FILE}"
    content = (path / file).read_bytes()
    expected = attributes["receipt"][file]  # KeyError: the receipt is written last, so the group is not finished
    if [len(content), google_crc32c.value(content)] != expected:
        raise CubeError(f"{path}: {file} is not as its receipt says; delete {path.name} and run again to make it anew")
    metadata: dict[str, Any] = json.loads(content)
    return metadata
