"""A decoder in bfloat16."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from hvlabel.models.two_way.contract import scores_presence

Decoder = TypeVar("Decoder", bound=nn.Module)


def half_precision(decoder: Decoder) -> Decoder:
    """A copy of a decoder that computes in bfloat16, all but the small heads.

    Those predict the IoU and the presence of an object, which thresholds are compared with.
    """
    half = copy.deepcopy(decoder).to(torch.bfloat16)
    half.iou_prediction_head.float()
    if scores_presence(half):
        half.pred_obj_score_head.float()
    return half
