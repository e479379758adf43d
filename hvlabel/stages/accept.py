"""Masks that people corrected: sealed again, and known to the run they belong to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from hvlabel.cache.index import replace_entry
from hvlabel.cache.publish import publish_bytes
from hvlabel.errors import MaskFileError
from hvlabel.layout import STAGES, Layout
from hvlabel.masks import corrected, is_corrected, read_document, read_edited, to_bytes
from hvlabel.stages.decisions import decided, label_of, read_decisions
from hvlabel.stages.mask_files import mask_entry


def accept_file(path: Path | str) -> int:
    """Seal an edited mask file as corrected, and enter it into the index of its run; returns the number of its masks.

    Every later run keeps it, until it is deleted. MaskFileError if there is nothing to accept, or the edit is no mask
    file.
    """
    path = Path(path)
    edited = read_edited(path)
    if edited is None:
        document = read_document(path)  # says what is wrong with it
        state = "accepted already" if is_corrected(document) else "as it was made, there is no edit to accept"
        raise MaskFileError(f"{path}: {state}; edit its annotations first")
    return _seal(path, edited)


class Accepted(NamedTuple):
    """What decisions made of a label.

    n_masks  : that it has now
    redraw   : ids, in the label as it is now, of masks that the person wants to draw again
    is_sealed: False where nothing was rejected or moved, so that the label is as it was
    """

    label: Path
    n_masks: int
    n_rejected: int
    redraw: tuple[int, ...]
    is_sealed: bool


def accept_decisions(path: Path, layout: Layout) -> Accepted:
    """Carry out what a person decided on a label's page: rejected masks go, the others take the person's order.

    A label that changes is sealed as corrected, as `accept_file` does. MaskFileError if the file is no decisions, or
    was made for another state of the label, which is then left alone.
    """
    decisions = read_decisions(path)
    label, document = label_of(path, decisions, layout)
    before = document["annotations"]
    after = decided(path, decisions, before)
    is_changed = after != before
    # sealed only where it changed: a label that is as it was stays the pipeline's
    n_masks = _seal(label, {**document, "annotations": after}) if is_changed else len(before)
    # a corrected label counts its masks anew
    redraw = tuple(k for k, annotation in enumerate(after) if annotation["id"] in decisions.redraw)
    return Accepted(label, n_masks, len(decisions.reject), redraw, is_changed)


def _seal(path: Path, edited: dict[str, Any]) -> int:
    """Publish an edited document as a corrected one, and its line in the index; the number of its masks."""
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
    # upwards: how deep a file lies in a results folder depends on its stage
    for folder in path.parents:
        layout = Layout(folder)
        expected = layout.output(stage, path.parent.name, path.stem)
        if layout.manifest.is_file() and expected == path:
            return layout
    return None
