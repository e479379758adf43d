"""Masks of all branches to one label: exact mask-IoU NMS, with votes and the reason for every suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hvlabel.config import FusionSettings
from hvlabel.errors import MaskFileError
from hvlabel.masks import Mask, MaskSet, Suppressed, areas, decode, mask_nms, rank


def fuse(branches: Sequence[MaskSet], settings: FusionSettings) -> MaskSet:
    """The label of one image: masks that win the NMS of all branches' weighted scores, best first.

    A kept mask's votes name its own branch and those of the masks it suppressed; each vote beyond the first adds
    vote_bonus to its score (capped at 1) before the final ranking, which decides what max_masks keeps.
    A suppressed mask is recorded by its position in its branch's file.
    MaskFileError if the branches disagree about the size of the image.
    """
    height, width = _common_size(branches)
    masks, ids = _candidates(branches, settings)
    kept, lost = mask_nms([m.rle for m in masks], rank(masks), settings.iou_threshold)
    votes = {k: {masks[k].branch} for k in kept}
    for loser, (winner, _) in lost.items():
        votes[winner].add(masks[loser].branch)
    winners = [
        replace(
            masks[k],
            votes=tuple(sorted(votes[k])),
            score=min(1.0, masks[k].score + settings.vote_bonus * (len(votes[k]) - 1)),
        )
        for k in kept
    ]
    order = rank(winners)[: settings.max_masks]
    place = {kept[k]: position for position, k in enumerate(order)}
    suppressed = [
        Suppressed(ids[loser], masks[loser].branch, iou, place[winner])
        for loser, (winner, iou) in sorted(lost.items())
        if winner in place
    ]
    return MaskSet(height, width, tuple(winners[k] for k in order), tuple(suppressed))


def foreground(label: MaskSet) -> np.ndarray:
    """(H, W) bool union of all masks of a label."""
    union = np.zeros((label.height_px, label.width_px), bool)
    for rle in label.rles:
        union |= decode(rle)
    return union


def _common_size(branches: Sequence[MaskSet]) -> tuple[int, int]:
    sizes = {(b.height_px, b.width_px) for b in branches}
    if len(sizes) != 1:
        raise MaskFileError(
            f"the branches' masks have different sizes {sorted(sizes)} (height, width); make them from one cube"
        )
    return sizes.pop()


def _candidates(branches: Sequence[MaskSet], settings: FusionSettings) -> tuple[list[Mask], list[int]]:
    """Weighted masks that are large enough, and each one's position in its branch."""
    masks: list[Mask] = []
    ids: list[int] = []
    for branch in branches:
        for k, (mask, area_px) in enumerate(zip(branch.masks, areas(branch.rles), strict=True)):
            if area_px >= settings.min_area_px:
                masks.append(replace(mask, score=mask.score * settings.weights.get(mask.branch, 1.0)))
                ids.append(k)
    return masks, ids
