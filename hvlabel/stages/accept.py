"""Masks that people corrected: sealed again, and known to the run they belong to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hvlabel.cache.index import replace_entry
from hvlabel.cache.publish import publish_bytes
from hvlabel.errors import MaskFileError
from hvlabel.layout import STAGES, Layout
from hvlabel.masks import corrected, is_corrected, read_document, read_edited, to_bytes
from hvlabel.stages.mask_files import mask_entry


def accept_file(path: Path) -> int:
    """Seal an edited mask file as corrected, and enter it into the index of its run; returns the number of its masks.

    Every later run keeps it, until it is deleted. MaskFileError if there is nothing to accept or the edit is no mask file.
    """
    edited = read_edited(path)
    if edited is None:
        document = read_document(path)  # says what is wrong with it
        state = "accepted already" if is_corrected(document) else "as it was made, there is no edit to accept"
        raise MaskFileError(f"{path}: {state}; edit its annotations first")
    document = corrected(path, edited)
    publish_bytes(path, to_bytes(document))
    layout = _run_of(path, str(document["provenance"].get("stage")))
    if layout is not None:
        entry = replace(mask_entry(path.absolute(), layout, document), made=True)
        replace_entry(layout, document["provenance"]["stage"], path.absolute().parent.name, path.stem, entry)
    return len(document["annotations"])


def _run_of(path: Path, stage: str) -> Layout | None:
    """The results folder that a mask file lies in, or None if it lies elsewhere."""
    if stage not in STAGES:
        return None
    whole = path.absolute()
    for folder in whole.parents:
        layout = Layout(folder)
        if layout.manifest.is_file() and layout.output(stage, whole.parent.name, whole.stem) == whole:
            return layout
    return None
