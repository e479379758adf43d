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

    Every later run keeps it, until it is deleted. MaskFileError if there is nothing to accept, or the edit is no mask
    file.
    """
    edited = read_edited(path)
    if edited is None:
        document = read_document(path)  # says what is wrong with it
        state = "accepted already" if is_corrected(document) else "as it was made, there is no edit to accept"
        raise MaskFileError(f"{path}: {state}; edit its annotations first")
    document = corrected(path, edited)
    publish_bytes(path, to_bytes(document))
    stage = str(document["provenance"].get("stage"))
    whole = path.absolute()
    layout = _run_of(whole, stage)
    if layout is not None:  # else the index would say that the file holds another content than it should
        entry = replace(mask_entry(whole, layout, document), made=True)
        replace_entry(layout, stage, whole.parent.name, whole.stem, entry)
    return len(document["annotations"])


def _run_of(path: Path, stage: str) -> Layout | None:
    """The results folder that a mask file lies in, or None if it lies elsewhere. path: an absolute one."""
    if stage not in STAGES:
        return None
    for folder in path.parents:
        layout = Layout(folder)
        expected = layout.output(stage, path.parent.name, path.stem)
        if layout.manifest.is_file() and expected == path:
            return layout
    return None
