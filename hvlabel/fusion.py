"""Masks of all branches to one label: exact mask-IoU NMS, with votes and the reason for every suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hvlabel.config import FusionSettings
from hvlabel.errors import MaskFileError
from hvlabel.masks import Mask, MaskSet, Suppressed, areas, decode, iou_matrix, mask_nms, rank

OWN_WORD = 0.25  # weight of a mask's own score beside its quality, where copies compete (docs/LOG.md)


def fuse(
    branches: Sequence[MaskSet], settings: FusionSettings, expected_iou: Sequence[np.ndarray] | None = None
) -> MaskSet:
    """The label of one image: masks that win the NMS of all branches, best first.

    expected_iou : per branch (N,) predicted IoU with an object, needed by ranking `quality`
    A kept mask's votes name its own branch and those of the masks it suppressed. By quality, those below min_quality are left
    out, the others are ranked by what is expected of them, times their branch's weight, and compete by that together with a
    share OWN_WORD of their own score, which knows best about copies of one mask. Otherwise they compete by
    their weighted scores, and the final score, which ranks the label, follows settings.ranking: by votes (score + vote_bonus *
    further votes) / (1 + vote_bonus * further branches), by agreement the mean over branches of the best IoU with a mask
    there, 1 for its own. Every mask that is not in the label is recorded with its position in its branch's file and the reason.
    MaskFileError if the branches disagree about the size of the image.
    """
    height, width = _common_size(branches)
    by_quality = settings.ranking == "quality"
    if by_quality and expected_iou is None:
        raise MaskFileError("ranking by quality needs the cube: name it, or set fusion.ranking to agreement or votes")
    candidates = [
        _Candidate(mask, k, float(expected_iou[b][k]) if by_quality and expected_iou is not None else mask.score)
        for b, branch in enumerate(branches)
        for k, mask in enumerate(branch.masks)
    ]
    area_px = areas([c.mask.rle for c in candidates])
    least = settings.min_quality if by_quality else -np.inf
    taken = [a >= settings.min_area_px and c.value >= least for c, a in zip(candidates, area_px, strict=True)]
    entered = [c for c, take in zip(candidates, taken, strict=True) if take]
    refused = [Suppressed(c.mask_id, c.mask.branch) for c, take in zip(candidates, taken, strict=True) if not take]

    weight = settings.weights.model_dump()
    factor = [weight.get(c.mask.branch, 1.0) for c in entered]
    masks = [replace(c.mask, score=_strength(c, by_quality) * f) for c, f in zip(entered, factor, strict=True)]
    kept, lost = mask_nms([m.rle for m in masks], rank(masks), settings.iou_threshold)
    votes = {k: {masks[k].branch} for k in kept}
    for loser, (winner, _) in lost.items():
        votes[winner].add(masks[loser].branch)
    winners = [replace(masks[k], votes=tuple(sorted(votes[k]))) for k in kept]
    if by_quality:
        final = [entered[k].value * factor[k] for k in kept]
    elif settings.ranking == "agreement":
        final = agreement(winners, branches)
    else:
        most = 1 + settings.vote_bonus * (len(branches) - 1)
        final = [(m.score + settings.vote_bonus * (len(m.votes) - 1)) / most for m in winners]
    winners = [replace(m, score=s) for m, s in zip(winners, final, strict=True)]
    order = rank(winners).tolist()
    if settings.coverage is not None and by_quality:
        n_kept = covering([winners[k] for k in order], settings.coverage)
        refused += [Suppressed(entered[kept[k]].mask_id, winners[k].branch) for k in order[n_kept:]]
        order = order[:n_kept]
    place = {kept[k]: position for position, k in enumerate(order)}
    beaten = [
        Suppressed(entered[loser].mask_id, masks[loser].branch, place.get(winner), iou if winner in place else None)
        for loser, (winner, iou) in sorted(lost.items())
    ]
    return MaskSet(height, width, tuple(winners[k] for k in order), (*beaten, *refused))


def _strength(candidate: _Candidate, by_quality: bool) -> float:
    """What a mask competes by, in [0, 1]."""
    if not by_quality:
        return candidate.value
    return (candidate.value + OWN_WORD * candidate.mask.score) / (1 + OWN_WORD)


def covering(masks: Sequence[Mask], share: float) -> int:
    """How many of some masks, from the first on, it takes to cover a share of what all of them cover."""
    if not masks:
        return 0
    union = np.zeros(tuple(masks[0].rle["size"]), bool)
    covered = []
    for mask in masks:
        union |= decode(mask.rle)
        covered.append(int(np.count_nonzero(union)))
    return 1 + int(np.argmax(np.array(covered) >= share * covered[-1]))


def agreement(masks: Sequence[Mask], branches: Sequence[MaskSet]) -> list[float]:
    """Of each mask the mean over branches of its best IoU with one of their masks, in [0, 1]; 1 for the branch it is of."""
    rles = [m.rle for m in masks]
    met = np.stack([iou_matrix(rles, b.rles).max(axis=1, initial=0) for b in branches])  # (branches, N)
    return [float(mean) for mean in met.mean(axis=0)]


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


class _Candidate(NamedTuple):
    """A mask, its position in its branch's file, and what it competes by."""

    mask: Mask
    mask_id: int
    value: float  # expected IoU, or the mask's own score
