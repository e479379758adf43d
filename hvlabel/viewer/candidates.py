"""What the fusion decides on: all masks of all branches with exact values, so that a page can decide again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hvlabel import fusion
from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import Cube
from hvlabel.errors import WeightsError
from hvlabel.masks import Mask, MaskSet, areas, iou_matrix
from hvlabel.quality import judge
from hvlabel.viewer.packed import packed

LEAST_IOU = 0.05  # pairs that share less are not kept: no threshold of a page may be lower


class Candidates(NamedTuple):
    """All masks of all branches, one branch after the other, as the fusion counts them.

    branches  : the masks, each with its `quality` if the predictor was asked
    expected  : per branch (N,) IoU with an object; None: the predictor cannot be had
    agreement : (N,) what ranking `agreement` ranks by
    area_px   : (N,)
    pairs     : (M, 3) int32, two candidates of which the second comes later, and how many px they share
    note      : why `expected` is None, "" if it is not
    """

    branches: list[MaskSet]
    expected: list[np.ndarray] | None
    agreement: list[float]
    area_px: np.ndarray
    pairs: np.ndarray
    note: str = ""

    @property
    def masks(self) -> list[Mask]:
        """All of them."""
        return [mask for branch in self.branches for mask in branch.masks]

    def as_json(self, mask_numbers: Sequence[int]) -> dict[str, Any]:
        """Columns with a value per candidate. mask_numbers: where each one's pixels stand in the page."""
        columns: dict[str, list[Any]] = defaultdict(list)
        for b, branch in enumerate(self.branches):
            for k, mask in enumerate(branch.masks):
                columns["file"].append(b)
                columns["branch"].append(mask.branch)  # a mask may be drawn into a branch's file by hand
                columns["id"].append(k)
                columns["score"].append(mask.score)
                columns["expected"].append(None if self.expected is None else float(self.expected[b][k]))
                columns["frame"].append(mask.frame)
                columns["name"].append(mask.extra.get("name"))
        pairs = packed(np.ascontiguousarray(self.pairs.T))  # (3, M): columns compress better
        return {
            **columns,
            "agreement": self.agreement,
            "area": self.area_px.tolist(),
            "mask": list(mask_numbers),
            "pairs": pairs._asdict(),
            "least_iou": LEAST_IOU,
        }

    def fused(self, settings: FusionSettings) -> MaskSet:
        """The label of the masks."""
        return fusion.fuse(self.branches, settings, self.expected)


def candidates_of(branches: Sequence[MaskSet], cube: Cube) -> Candidates:
    """The candidates of an image."""
    note, expected, judged_masks = "", None, list(branches)
    try:
        judged = judge(branches, cube)
        judged_masks, expected = judged.branches, judged.expected_iou
    except WeightsError as error:
        note = f"Ranking by quality cannot be followed here: {error}."
    masks = [mask for branch in branches for mask in branch.masks]
    rles = [mask.rle for mask in masks]
    iou = iou_matrix(rles, rles)  # (N, N)
    area_px = areas(rles)
    return Candidates(judged_masks, expected, _agreement(iou, branches), area_px, _pairs(iou, area_px), note)


def _agreement(iou: np.ndarray, branches: Sequence[MaskSet]) -> list[float]:
    """What `fusion.agreement` says of each mask, from an (N, N) IoU that is there already."""
    ends = np.cumsum([len(branch) for branch in branches])
    with_branches = np.split(iou, ends[:-1], axis=1)  # (N, masks of the branch) each
    best_iou = [with_branch.max(axis=1, initial=0) for with_branch in with_branches]
    return np.stack(best_iou).mean(axis=0).tolist()


def _pairs(iou: np.ndarray, area_px: np.ndarray) -> np.ndarray:
    """(M, 3) int32: first, second, common px of all pairs above LEAST_IOU."""
    first, second = np.nonzero(np.triu(iou > LEAST_IOU, k=1))  # each pair once
    shared = iou[first, second]
    # an IoU is a quotient of whole numbers: the page divides them again, and gets the same float64
    sum_px = area_px[first] + area_px[second]
    common_px = shared * sum_px / (1 + shared)  # IoU = common / (sum - common)
    pairs = np.stack([first, second, np.rint(common_px)], axis=1)
    return pairs.astype(np.int32)
