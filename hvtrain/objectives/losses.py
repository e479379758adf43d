"""The terms of the objective, each per mask or per token; how they are weighed is the objective's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from hvlabel.config import LossSettings

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0  # as in SAM
DICE_SMOOTHING = 1  # px added above and below: an empty mask of an empty target costs nothing
BALANCED_SMOOTHING = 4  # px added to each area: a mask of few pixels shall not outweigh all others
EDGE_CELLS = 2  # on either side of an outline


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """(N, M) focal loss, mean over pixels, of logits (N, M, h, w) against targets (N, 1, h, w) in {0, 1}."""
    p = logits.sigmoid()  # (N, M, h, w)
    entropy = _entropy(logits, target)
    wrong = p + target - 2 * p * target  # 1 - probability of the truth
    alpha = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    per_pixel = alpha * wrong**FOCAL_GAMMA * entropy  # (N, M, h, w)
    return per_pixel.mean(dim=(2, 3))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """(N, M) dice loss with 1 added above and below, of logits (N, M, h, w) against targets (N, 1, h, w) in {0, 1}."""
    p = logits.sigmoid()
    overlap = (p * target).sum(dim=(2, 3))  # (N, M)
    mask_px, target_px = p.sum(dim=(2, 3)), target.sum(dim=(2, 3))
    areas = mask_px + target_px
    alike = (2 * overlap + DICE_SMOOTHING) / (areas + DICE_SMOOTHING)
    return 1 - alike


def balanced_loss(logits: Tensor, target: Tensor) -> Tensor:
    """(N, M) cross-entropy, mean over the object plus mean over the background (4 px added to each area)."""
    entropy = _entropy(logits, target)
    background = 1 - target
    object_px = target.sum(dim=(2, 3)) + BALANCED_SMOOTHING  # (N, 1)
    background_px = background.sum(dim=(2, 3)) + BALANCED_SMOOTHING
    on_object = (entropy * target).sum(dim=(2, 3)) / object_px
    beside_it = (entropy * background).sum(dim=(2, 3)) / background_px
    return on_object + beside_it


def edge_loss(logits: Tensor, target: Tensor) -> Tensor:
    """(N, M) cross-entropy, mean over the cells within EDGE_CELLS of the object's outline; 0 where it has none."""
    side = 2 * EDGE_CELLS + 1
    grown = F.max_pool2d(target, side, stride=1, padding=EDGE_CELLS)
    shrunk = -F.max_pool2d(-target, side, stride=1, padding=EDGE_CELLS)  # a minimum; what is outside does not count
    near = grown - shrunk  # (N, 1, h, w), 1 along the outline
    entropy = _entropy(logits, target)
    n_near = near.sum(dim=(2, 3)).clamp(min=1)  # (N, 1)
    return (entropy * near).sum(dim=(2, 3)) / n_near


def mask_loss(logits: Tensor, target: Tensor, weights: LossSettings) -> Tensor:
    """(N, M) weighted sum of the mask losses above, of logits (N, M, h, w) against targets (N, 1, h, w) in {0, 1}."""
    focal = weights.focal * focal_loss(logits, target)
    dice = weights.dice * dice_loss(logits, target)
    total = focal + dice
    for weight, loss in ((weights.balanced, balanced_loss), (weights.edge, edge_loss)):
        if weight:  # a loss of no weight is not computed: it costs as much as the others
            total = total + weight * loss(logits, target)
    return total


def _entropy(logits: Tensor, target: Tensor) -> Tensor:
    """(N, M, h, w) cross-entropy of each pixel."""
    return F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")


def mask_iou(masks: Tensor, target: Tensor) -> Tensor:
    """(N, M) IoU of masks (N, M, h, w) bool with targets (N, 1, h, w) bool; 0 where both are empty."""
    overlap = (masks & target).sum(dim=(2, 3))  # (N, M) px
    union = (masks | target).sum(dim=(2, 3))
    return overlap / union.clamp(min=1)


def distillation_loss(
    student: Tensor, teacher: Tensor, centre: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Cross-entropy between the channel distributions of teacher and student tokens, mean over tokens.

    The paper's section 4.3.

    student, teacher : (..., D); p_t = softmax((t - c) / tau_t), q_s = softmax(s / tau_s)
    centre           : (D,)
    """
    # centred: channels that are large in every token say nothing about this one
    centred = (teacher - centre) / teacher_temperature
    p_teacher = centred.softmax(dim=-1)
    log_q_student = (student / student_temperature).log_softmax(dim=-1)
    per_token = (p_teacher * log_q_student).sum(dim=-1)
    return -per_token.mean()
