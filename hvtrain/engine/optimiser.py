"""Rates, decays and the averaged weights."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hvlabel.config import OptimiserSettings

# parts that a prompt alone drives
PROMPTED = (
    "student.prompt_encoder.",
    "student.mask_decoder.transformer.",
    "student.mask_decoder.iou_token.",
    "student.mask_decoder.mask_tokens.",
)


def cosine_rate(step: int, settings: OptimiserSettings) -> float:
    """Factor on the peak rate: linear warm-up, then half a cosine down to a hundredth."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))


def parameter_groups(
    objective: nn.Module, settings: OptimiserSettings, prompted: tuple[str, ...] = PROMPTED
) -> list[dict[str, Any]]:
    """AdamW groups of one rate and decay each; no decay on vectors."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in objective.named_parameters():
        factor = settings.decoder_lr if name.startswith(prompted) else 1.0
        if parameter.ndim > 1 and settings.lr_fan_in is not None:
            factor *= min(1.0, settings.lr_fan_in / parameter[0].numel())
        groups[factor, settings.weight_decay if parameter.ndim > 1 else 0.0].append(parameter)
    return [
        {"params": parameters, "lr": settings.lr * factor, "peak_lr": settings.lr * factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Averaged weights, whose decay after n steps is at most (1 + n) / (10 + n): the first ones are soon forgotten."""

    def update(average: Any, current: Any, n_steps: Any) -> None:
        n = float(n_steps)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(average, current, n_steps)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)
