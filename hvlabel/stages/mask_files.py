"""What the mask stages share: when a mask file is valid, and its line in the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hvlabel.cache.index import Entry
from hvlabel.errors import MaskFileError
from hvlabel.layout import Layout
from hvlabel.masks import read_document


def valid_document(path: Path, key: str) -> dict[str, Any] | None:
    """The parsed file if it is whole and has this key, else None."""
    try:
        document = read_document(path)
    except MaskFileError:
        return None
    return document if document["provenance"].get("key") == key else None


def mask_entry(path: Path, layout: Layout, document: dict[str, Any]) -> Entry:
    """The index entry of a mask file."""
    counts: dict[str, Any] = {"masks": len(document["annotations"])}
    if document["provenance"]["stage"] == "labels":
        counts |= {
            "suppressed": len(document["suppressed"]),
            "foreground_share": document["provenance"]["foreground_share"],
        }
    provenance = document["provenance"]
    return Entry(
        "ok", str(path.relative_to(layout.root)), provenance["content_sha256"], provenance["seconds"], counts=counts
    )
