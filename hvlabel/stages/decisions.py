"""What a person decided about the masks of a label on its page, read from the file that the page saves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field, StrictInt

from hvlabel.errors import ConfigError, MaskFileError
from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest
from hvlabel.masks import is_mask_document, read_document
from hvlabel.settings import Settings, validated

ENDING = ".decisions"  # of the name before .json; browsers add a number to a second download


class Decisions(Settings):
    """The file's content. Masks are named by their `id` in the label.

    accept, reject and redraw name a mask once at most; one in none of them is undecided, and stays.
    """

    dataset: str
    image: str
    label_sha256: str = Field(description="seal of the label that the person looked at")
    order: tuple[StrictInt, ...] = ()
    accept: tuple[StrictInt, ...] = ()
    reject: tuple[StrictInt, ...] = ()
    redraw: tuple[StrictInt, ...] = ()


def is_decisions_file(path: Path) -> bool:
    """Whether a file holds decisions and no masks, by its name and, where an image has such a name, its content."""
    if ENDING not in path.stem:
        return False
    try:
        return not is_mask_document(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return True  # says what is wrong with it when it is read


def read_decisions(path: Path) -> Decisions:
    """The decisions of a file; MaskFileError says what is wrong with it."""
    try:
        tree = json.loads(path.read_bytes())
    except OSError as error:
        raise MaskFileError(f"{path}: cannot read the decisions ({error.strerror}); save them again") from error
    except (ValueError, RecursionError) as error:
        raise MaskFileError(f"{path}: not JSON ({str(error)[:80]}); save the decisions again") from error
    try:
        return validated(Decisions, tree, str(path))
    except ConfigError as error:
        raise MaskFileError(f"{error}; save the decisions again") from error


def label_of(path: Path, decisions: Decisions, layout: Layout) -> tuple[Path, dict[str, Any]]:
    """The label that decisions are about, and what it holds.

    path : of the decisions, for messages
    MaskFileError if the run has no such image, or the label is not the one that the person looked at.
    """
    name = f"{decisions.dataset}/{decisions.image}"
    # the names come from a file: only those of the run lead to a path
    known = {(row.dataset, row.image_id) for row in read_manifest(layout.manifest)}
    if (decisions.dataset, decisions.image) not in known:
        raise MaskFileError(f"{path}: of {name}, which is no image of {layout.root}; give its --results")
    label = layout.label(decisions.dataset, decisions.image)
    document = read_document(label)
    seal = document["provenance"]["content_sha256"]
    if seal != decisions.label_sha256:
        raise MaskFileError(
            f"{path}: made for another state of {label} (seal {decisions.label_sha256[:12]}, now {seal[:12]}); "
            f"make its page again with `hvlabel view {name}` and decide there"
        )
    return label, document


def decided(path: Path, decisions: Decisions, annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The annotations that stay, in the person's order; those that the order does not name follow in theirs.

    MaskFileError for a mask that is not there, is named twice or decided in two ways.
    """
    of_id = {annotation["id"]: annotation for annotation in annotations}
    verdicts = (*decisions.accept, *decisions.reject, *decisions.redraw)
    for what, ids in (("order", decisions.order), ("accept, reject and redraw", verdicts)):
        unknown = [k for k in ids if k not in of_id]
        if unknown:
            raise MaskFileError(
                f"{path}: {what}: no mask {unknown[0]} in the label, which has 0 to {len(of_id) - 1}; save them again"
            )
        if len(set(ids)) != len(ids):
            twice = next(k for k in ids if ids.count(k) > 1)
            raise MaskFileError(f"{path}: {what}: mask {twice} is named twice; save the decisions again")
    order = dict.fromkeys((*decisions.order, *of_id))  # each once, where it comes first
    return [of_id[k] for k in order if k not in decisions.reject]
