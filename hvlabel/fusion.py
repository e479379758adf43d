"""Masks of all branches to one label: exact mask-IoU NMS, with votes and the reason for every suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hvlabel.config.fusion import FusionSettings
from hvlabel.errors import MaskFileError
from hvlabel.masks import Mask, MaskSet, Suppressed, areas, decode, iou_matrix, mask_nms, nested_copies, rank, union

OWN_WORD = 0.25  # weight of a mask's own score beside its quality, where copies compete (docs/LOG.md)


def fuse(
    branches: Sequence[MaskSet], settings: FusionSettings, expected_iou: Sequence[np.ndarray] | None = None
) -> MaskSet:
    """The label of one image: masks that win the NMS of all branches, best first.

    expected_iou : per branch (N,) predicted IoU with an object, needed by ranking `quality`

    A kept mask's votes name its own branch and those of the masks it suppressed.

    By quality, masks below min_quality are left out. The others are ranked by what is expected of them, times their
    branch's weight, and compete by that together with a share OWN_WORD of their own score, which knows best about
    copies of one mask. Of masks that lie in one another, from nested_iou on, only the clearly better one stays.

    Otherwise they compete by their weighted scores, and the final score, which ranks the label, follows
    settings.ranking: by votes (score + vote_bonus * further votes) / (1 + vote_bonus * further branches), by agreement
    the mean over branches of the best IoU with a mask there, 1 for its own.

    Every mask that is not in the label is recorded with its position in its branch's file and the reason. MaskFileError
    if the branches disagree about the size of the image.
    """
    height, width = _common_size(branches)
    by_quality = settings.ranking == "quality"
    if by_quality and expected_iou is None:
        raise MaskFileError("ranking by quality needs the cube: name it, or set fusion.ranking to agreement or votes")
    candidates = _candidates(branches, settings, expected_iou if by_quality else None)
    entered, refused = _admitted(candidates, settings)

    own_share = OWN_WORD if by_quality else 0.0
    masks = [c.mask for c in entered]
    strengths = [c.strength(own_share) for c in entered]
    kept, lost = mask_nms([m.rle for m in masks], rank(masks, strengths), settings.iou_threshold)
    nested = _nested(masks, strengths, kept, settings.nested_iou) if by_quality else {}
    kept = [k for k in kept if k not in nested]
    lost = _handed_on(lost, nested, masks)
    votes = _votes(masks, kept, lost)

    if by_quality:
        final = [entered[k].value * entered[k].weight for k in kept]
    elif settings.ranking == "agreement":
        final = agreement([masks[k] for k in kept], branches)
    else:
        final = [_with_bonus(strengths[k], len(votes[k]), len(branches), settings.vote_bonus) for k in kept]
    winners = [
        replace(masks[k], votes=tuple(sorted(votes[k])), score=score) for k, score in zip(kept, final, strict=True)
    ]
    order = rank(winners).tolist()
    if by_quality and settings.coverage is not None:
        n_covering = covering([winners[k] for k in order], settings.coverage)
        refused += [entered[kept[k]].refused("covered") for k in order[n_covering:]]
        order = order[:n_covering]

    # a mask that lost to one which was left out afterwards names no winner
    position_of = {kept[k]: position for position, k in enumerate(order)}
    beaten = []
    for loser, (winner, iou) in sorted(lost.items()):
        winner_iou = iou if winner in position_of else None
        reason = "nested" if loser in nested else "copy"
        beaten.append(replace(entered[loser].refused(reason), by=position_of.get(winner), iou=winner_iou))
    return MaskSet(height, width, tuple(winners[k] for k in order), (*beaten, *refused))


def covering(masks: Sequence[Mask], share: float) -> int:
    """How many of some masks, from the first on, it takes to cover a share of what all of them cover."""
    if not masks:
        return 0
    height, width = masks[0].rle["size"]
    unions = [masks[0].rle]  # of the first mask, the first two, ...
    for mask in masks[1:]:
        unions.append(union([unions[-1], mask.rle], height, width))
    covered_px = areas(unions)
    suffices = covered_px >= share * covered_px[-1]
    return 1 + int(np.argmax(suffices))  # the first that does


def agreement(masks: Sequence[Mask], branches: Sequence[MaskSet]) -> list[float]:
    """Of each mask the mean over branches of its best IoU with a mask there, in [0, 1]; 1 for the branch it is of."""
    rles = [m.rle for m in masks]
    best_iou = [iou_matrix(rles, branch.rles).max(axis=1, initial=0) for branch in branches]  # per branch (N,)
    mean = np.stack(best_iou).mean(axis=0)
    return [float(value) for value in mean]


def foreground(label: MaskSet) -> np.ndarray:
    """(H, W) bool union of all masks of a label."""
    return decode(union(label.rles, label.height_px, label.width_px))


@dataclass(frozen=True)
class _Candidate:
    """A mask that may come into the label.

    mask_id : its position in its branch's file
    value   : IoU that is expected of it, or its own score; [0, 1]
    weight  : of its branch, [0, 1]
    """

    mask: Mask
    mask_id: int
    value: float
    weight: float

    def strength(self, own_share: float) -> float:
        """What it competes by, in [0, 1]. own_share: of its own score, beside its value."""
        mixed = (self.value + own_share * self.mask.score) / (1 + own_share)
        return mixed * self.weight

    def refused(self, reason: str) -> Suppressed:
        """The mask as one that is not in the label. reason: one of REASONS."""
        return Suppressed(self.mask_id, self.mask.branch, reason=reason, quality=self.mask.extra.get("quality"))


def _candidates(
    branches: Sequence[MaskSet], settings: FusionSettings, expected_iou: Sequence[np.ndarray] | None
) -> list[_Candidate]:
    """All masks of all branches, one branch after the other."""
    weights = settings.weights.model_dump()
    candidates = []
    for b, branch in enumerate(branches):
        for k, mask in enumerate(branch.masks):
            value = mask.score if expected_iou is None else float(expected_iou[b][k])
            weight = weights.get(mask.branch, 1.0)  # `person`: drawn into a file by hand
            candidates.append(_Candidate(mask, k, value, weight))
    return candidates


def _admitted(candidates: Sequence[_Candidate], settings: FusionSettings) -> tuple[list[_Candidate], list[Suppressed]]:
    """Those that compete, and those that are too small or of which too little is expected."""
    area_px = areas([c.mask.rle for c in candidates])  # (N,)
    least = settings.min_quality if settings.ranking == "quality" else -np.inf
    entered, refused = [], []
    for candidate, area in zip(candidates, area_px, strict=True):
        if area < settings.min_area_px:
            refused.append(candidate.refused("small"))
        elif candidate.value < least:
            refused.append(candidate.refused("poor"))
        else:
            entered.append(candidate)
    return entered, refused


def _nested(
    masks: Sequence[Mask], strengths: Sequence[float], kept: Sequence[int], least_iou: float
) -> dict[int, tuple[int, float]]:
    """Of the kept masks those that are nested in a better one: for each the better one and their IoU."""
    rles = [masks[k].rle for k in kept]
    of_kept = np.array([strengths[k] for k in kept])
    copies = nested_copies(rles, of_kept, least_iou)
    return {kept[loser]: (kept[winner], iou) for loser, (winner, iou) in copies.items()}


def _handed_on(
    lost: dict[int, tuple[int, float]], nested: dict[int, tuple[int, float]], masks: Sequence[Mask]
) -> dict[int, tuple[int, float]]:
    """Who every mask lost to, the nested ones included; what lost to one of those lost to its winner."""
    final = dict(nested)
    for loser, (winner, iou) in lost.items():
        if winner in nested:
            winner = nested[winner][0]
            iou = float(iou_matrix([masks[loser].rle], [masks[winner].rle])[0, 0])
        final[loser] = (winner, iou)
    return final


def _votes(masks: Sequence[Mask], kept: Sequence[int], lost: dict[int, tuple[int, float]]) -> dict[int, set[str]]:
    """Of each kept mask its own branch and those of the masks that lost to it."""
    votes = {k: {masks[k].branch} for k in kept}
    for loser, (winner, _) in lost.items():
        votes[winner].add(masks[loser].branch)
    return votes


def _with_bonus(score: float, n_votes: int, n_branches: int, vote_bonus: float) -> float:
    """A score with a bonus for every branch that also has the mask, over the largest value that can be: in [0, 1]."""
    most = 1 + vote_bonus * (n_branches - 1)
    return (score + vote_bonus * (n_votes - 1)) / most


def _common_size(branches: Sequence[MaskSet]) -> tuple[int, int]:
    sizes = {(b.height_px, b.width_px) for b in branches}
    if len(sizes) != 1:
        raise MaskFileError(
            f"the branches' masks have different sizes {sorted(sizes)} (height, width); make them from one cube"
        )
    return sizes.pop()
