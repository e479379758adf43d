"""Tokens that follow a frozen teacher's (paper, section 4.3)."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor, nn

from hvlabel.config import LossSettings
from hvtrain.data.batch import Batch
from hvtrain.objectives.combined import full_precision
from hvtrain.objectives.contract import Objective, Terms
from hvtrain.objectives.losses import distillation_loss

CENTRE_MOMENTUM = 0.99  # of the running mean of teacher tokens: a batch is of one camera, the mean of all


class DistilObjective(Objective):
    """Cross-entropy between the channels of the teacher's tokens and of the student's, projected to as many.

    width  : channels of the student's last map
    centre : (D,) mean of the teacher's tokens
    """

    needs = frozenset({"features", "teacher"})

    def __init__(self, width: int, centre: Tensor, loss: LossSettings) -> None:
        self.loss = loss
        self.projection = nn.Linear(width, len(centre))
        self.centre = _Centre(centre)
        self.weights = {"distill": loss.distill}
        self.heads = {"projection": self.projection, "teacher_centre": self.centre}

    def __call__(self, batch: Batch) -> Terms:
        """Scalar `distill`, mean over tokens."""
        neck = batch.features[-1]  # (B, C, g, g)
        with full_precision(neck.device):
            channels_last = neck.float().permute(0, 2, 3, 1)
            tokens = self.projection(channels_last)  # (B, g, g, D)
            teacher = batch.teacher.float()  # (B, g, g, D)
            if self.loss.centre == "running" and self.centre.training:
                self.centre.follow(teacher)
            loss = distillation_loss(
                tokens,
                teacher,
                self.centre.mean,
                student_temperature=self.loss.student_temperature,
                teacher_temperature=self.loss.teacher_temperature,
            )
        return {"distill": loss}


class _Centre(nn.Module):
    """Mean (D,) of the teacher's tokens; a buffer, so that a resumed run goes on with it."""

    mean: Tensor

    def __init__(self, centre: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", centre.clone())

    @torch.no_grad()
    def follow(self, teacher: Tensor) -> None:
        """Move towards the mean of tokens (B, g, g, D) of all processes."""
        mean = teacher.mean(dim=(0, 1, 2))
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean /= torch.distributed.get_world_size()
        self.mean.lerp_(mean, 1 - CENTRE_MOMENTUM)
