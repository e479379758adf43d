"""What a page says of each mask of the label, and which candidate of the fusion it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from hvlabel.masks import MaskSet
from hvlabel.viewer.candidates import Candidates


def label_rows(
    document: dict[str, Any], numbers: Sequence[int], label: MaskSet, candidates: Candidates | None
) -> list[dict[str, Any]]:
    """A row per mask of a label, in its order.

    numbers : where the pixels of each stand in the page
    """
    origins = _origins(label, candidates)
    rows = []
    for k, annotation in enumerate(document["annotations"]):
        rows.append(
            {
                "id": annotation["id"],
                "mask": numbers[k],
                "candidate": origins[k],
                "score": annotation["score"],
                "quality": annotation.get("quality"),
                "known": annotation.get("quality_known", True),
                "branch": annotation["branch"],
                "frame": annotation["frame"],
                "votes": annotation["votes"],
                "area": annotation["area"],
                "name": annotation.get("name"),  # its class, where people drew it
            }
        )
    return rows


def _origins(label: MaskSet, candidates: Candidates | None) -> list[int | None]:
    """Which candidate each mask of the label is; None: it is none of them."""
    if candidates is None:
        return [None] * len(label)
    # an annotation does not say its number in its branch's file; what lost is listed with it, so the others were kept
    lost = {(loser.branch, loser.mask_id) for loser in label.suppressed}
    waiting: dict[tuple[str, bytes], list[int]] = defaultdict(list)
    number = 0
    for branch in candidates.branches:
        for k, mask in enumerate(branch.masks):
            if (mask.branch, k) not in lost:
                waiting[mask.branch, mask.rle["counts"]].append(number)
            number += 1
    origins: list[int | None] = []
    for mask in label.masks:
        same = waiting[mask.branch, mask.rle["counts"]]
        # at a threshold of 1 equal masks of one branch are all kept: each annotation is another one of them
        origins.append(same.pop(0) if same else None)
    return origins
