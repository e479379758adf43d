"""A label beside the masks that it was fused from: where each of its masks came from, and what became of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hvlabel.errors import ConfigError
from hvlabel.layout import Layout
from hvlabel.masks import Mask, MaskSet, Suppressed, masks_of, read_document

Origin = tuple[str, int]  # a branch, and a position in its file


@dataclass(frozen=True)
class Origins:
    """A label, its branches, and who became what.

    document : of the label
    branches : by name, in the order in which they were fused
    kept     : of a branch's mask, its position in the label
    lost     : of a branch's mask, why it is not in the label
    changed  : branches whose masks are others than the label was fused from; of them nothing is kept or lost
    """

    document: dict[str, Any]
    label: MaskSet
    branches: Mapping[str, MaskSet]
    kept: Mapping[Origin, int]
    lost: Mapping[Origin, Suppressed]
    changed: tuple[str, ...] = ()

    def remark(self) -> str:
        """A sentence where masks and label do not belong together, else ""."""
        if not self.changed:
            return ""
        names = ", ".join(self.changed)
        return f"the masks of {names} were made anew after this label: what became of them is not known; run again"

    def origin_of(self, position: int) -> Origin | None:
        """The branch's mask that a mask of the label is; None for one that a person drew."""
        origins = (origin for origin, k in self.kept.items() if k == position)
        return next(origins, None)

    def beaten_by(self, position: int) -> list[Suppressed]:
        """What a mask of the label suppressed, the most alike first."""
        beaten = [loser for loser in self.label.suppressed if loser.by == position]
        return sorted(beaten, key=lambda loser: -(loser.iou or 0.0))

    def shown_as(self, origin: Origin) -> int | None:
        """The label's mask that stands for a branch's one: itself, or what it lost to; None if it lost to none."""
        if origin in self.kept:
            return self.kept[origin]
        return self.lost[origin].by if origin in self.lost else None


def origins_of(layout: Layout, dataset: str, image_id: str) -> Origins:
    """The origins of an image's label; MaskFileError if a file is missing or damaged."""
    document = read_document(layout.label(dataset, image_id))
    label = masks_of(document)
    branches = {}
    changed = []
    for name, of in document["provenance"].get("branches", {}).items():
        of_branch = read_document(layout.masks(name, dataset, image_id))
        branches[name] = masks_of(of_branch)
        # a label names masks by their position, which means nothing in another file
        if of_branch["provenance"]["content_sha256"] != of["content_sha256"]:
            changed.append(name)
    known = {name: masks for name, masks in branches.items() if name not in changed}
    lost = {origin: loser for origin, loser in _lost(label).items() if origin[0] in known}
    return Origins(document, label, branches, _kept(label, known), lost, tuple(changed))


def mask_at(masks: MaskSet, number: int, where: str) -> Mask:
    """The mask of a number; ConfigError if there is none. where: for messages."""
    if not 0 <= number < len(masks):
        span = f"expected 0 to {len(masks) - 1}" if len(masks) else "it has none"
        raise ConfigError(f"--mask {number}: {where} has {len(masks)} masks, {span}")
    return masks.masks[number]


def _lost(label: MaskSet) -> dict[Origin, Suppressed]:
    return {(loser.branch, loser.mask_id): loser for loser in label.suppressed}


def _kept(label: MaskSet, branches: Mapping[str, MaskSet]) -> dict[Origin, int]:
    """Positions in the label: a mask is copied as it is, so its run lengths tell whose it was."""
    # masks of one branch with equal run lengths are copies, of which all but one are lost
    position_of = {(mask.branch, mask.rle["counts"]): k for k, mask in enumerate(label.masks)}
    lost = _lost(label)
    kept = {}
    for name, masks in branches.items():
        for k, mask in enumerate(masks.masks):
            position = position_of.get((name, mask.rle["counts"]))
            if position is not None and (name, k) not in lost:
                kept[name, k] = position
    return kept
