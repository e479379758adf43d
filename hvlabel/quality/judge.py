"""What the predictor expects of all masks of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hvlabel.cube import Cube
from hvlabel.masks import Mask, MaskSet
from hvlabel.quality.features import mask_features
from hvlabel.quality.predictor import load_predictor
from hvlabel.quality.view import view_of


@dataclass(frozen=True)
class Judged:
    """Masks of all branches with what is expected of them.

    branches     : the same masks; the extra of each has its `quality`, its `features` in the order of NAMES, and
                   `quality_known` where it lies outside of what the predictor knows
    expected_iou : per branch (N,), in [0, 1]
    """

    branches: list[MaskSet]
    expected_iou: list[np.ndarray]


def judge(branches: Sequence[MaskSet], cube: Cube) -> Judged:
    """What the predictor expects of every mask; each is also compared with all others."""
    pool = [mask for branch in branches for mask in branch.masks]
    features = mask_features(pool, view_of(cube))  # (N, F)
    predictor = load_predictor()
    expected_iou = predictor.quality(features)  # (N,)
    known = predictor.is_known(features)  # (N,)
    rows = zip(pool, features, expected_iou, known, strict=True)
    judged_masks = [_with_quality(*row) for row in rows]
    # the pool holds one branch after the other: cut it where they end
    judged = Judged([], [])
    end = 0
    for branch in branches:
        start, end = end, end + len(branch)
        of_branch = tuple(judged_masks[start:end])
        judged.branches.append(replace(branch, masks=of_branch))
        judged.expected_iou.append(expected_iou[start:end])
    return judged


def _with_quality(mask: Mask, features: np.ndarray, quality: float, is_known: bool) -> Mask:
    """A mask that says what is expected of it. features: (F,)."""
    rounded = [round(float(value), 4) for value in features]
    extra = {**mask.extra, "quality": round(float(quality), 4), "features": rounded}
    if not is_known:
        extra["quality_known"] = False
    return replace(mask, extra=extra)
