"""What the mask stages share: when a mask file is valid, and its line in the index."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hvlabel.cache.index import Entry
from hvlabel.cache.publish import make_folder
from hvlabel.errors import MaskFileError
from hvlabel.layout import Layout
from hvlabel.masks import is_corrected, read_document, read_edited


def whole_document(path: Path) -> dict[str, Any] | None:
    """The parsed file if it is there and whole, else None."""
    if not path.exists():
        return None
    try:
        return read_document(path)
    except MaskFileError:
        return None


def valid_document(path: Path, key: str) -> dict[str, Any] | None:
    """The parsed file if it is whole and has this key or was corrected, else None."""
    document = whole_document(path)
    if document is None:
        return None
    return document if document["provenance"].get("key") == key or is_corrected(document) else None


def keep_edit(path: Path, layout: Layout) -> Path | None:
    """Move a file that people edited but did not accept out of the way of a new one; where it lies now, or None."""
    if not path.exists() or read_edited(path) is None:
        return None
    first = layout.aside / path.relative_to(layout.root)
    target = first
    n = 1
    while target.exists():  # an edit is never overwritten
        n += 1
        target = first.with_name(f"{path.stem}-{n}{path.suffix}")
    make_folder(target.parent)
    path.rename(target)
    sentence = f"{path}: was edited and not accepted; moved to {target}"
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)
    return target


def mask_entry(path: Path, layout: Layout, document: dict[str, Any]) -> Entry:
    """The index entry of a mask file. document: what it holds."""
    provenance = document["provenance"]
    counts: dict[str, Any] = {"masks": len(document["annotations"])}
    if provenance["stage"] == "labels":
        counts["suppressed"] = len(document["suppressed"])
        counts["foreground_share"] = provenance["foreground_share"]
        counts |= _label_counts(document)
    relative = str(path.relative_to(layout.root))
    return Entry("ok", relative, provenance["content_sha256"], provenance["seconds"], counts=counts)


def _label_counts(document: dict[str, Any]) -> dict[str, float]:
    """How good a label seems, in numbers; what it does not say is left out."""
    masks = document["annotations"]
    lost = document["suppressed"]
    n_branches = len(document["provenance"]["branches"])
    counts = {}
    if masks:
        n_votes = [len(mask["votes"]) for mask in masks]
        mean_votes = sum(n_votes) / len(n_votes)
        counts["agreement"] = round(mean_votes / n_branches, 4)
    qualities = [mask["quality"] for mask in masks if "quality" in mask]
    if qualities:
        n_poor = sum(of.get("reason") == "poor" for of in lost)
        n_unknown = sum(not mask.get("quality_known", True) for mask in masks)
        n_candidates = len(masks) + len(lost)
        counts["quality"] = round(sum(qualities) / len(qualities), 4)
        counts["cut"] = round(n_poor / n_candidates, 4)
        counts["unknown"] = round(n_unknown / len(masks), 4)
    return counts
