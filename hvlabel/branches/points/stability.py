"""How little a mask changes when its threshold does."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hvlabel.config import GeneratorSettings


def stability_scores(logits: Tensor, settings: GeneratorSettings) -> Tensor:
    """(K,) IoU of the masks of (K, h, w) logits at a higher and a lower threshold; nan where the lower one is empty."""
    threshold, offset = settings.mask_threshold, settings.stability_score_offset
    # the smaller mask lies in the larger one: their areas are intersection and union
    smaller_px = _areas_px(logits, threshold + offset)
    larger_px = _areas_px(logits, threshold - offset)
    return smaller_px / larger_px


def _areas_px(logits: Tensor, threshold: float) -> Tensor:
    """(K,) number of px above a threshold."""
    if logits.is_cuda:
        return (logits > threshold).flatten(1).sum(1, dtype=torch.int32)
    # NumPy counts bits of a mask that is still in the cache; torch widens each to an integer first
    areas_px = [np.count_nonzero(mask > threshold) for mask in logits.numpy()]
    return torch.tensor(areas_px, dtype=torch.int32)
