"""Rates, decays and the averaged weights."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hvlabel.config import OptimiserSettings

FLOOR = 0.01  # of the rate at the end, as a share of the peak
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
    n_falling = max(1, settings.steps - settings.warmup_steps)
    share = (step - settings.warmup_steps) / n_falling  # 0 after the warm-up, 1 at the last step
    swing = 1 + math.cos(math.pi * share)  # from 2 down to 0
    return FLOOR + (1 - FLOOR) * 0.5 * swing


def parameter_groups(
    objective: nn.Module, settings: OptimiserSettings, prompted: tuple[str, ...] = PROMPTED
) -> list[dict[str, Any]]:
    """AdamW groups of one rate and decay each; no decay on vectors: biases and norms must be free to grow.

    prompted : starts of the names of parameters whose rate is multiplied by settings.decoder_lr
    """
    by_factor_and_decay: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in objective.named_parameters():
        is_vector = parameter.ndim <= 1
        factor = settings.decoder_lr if name.startswith(prompted) else 1.0
        if parameter.ndim == 0:
            factor *= gate_factor(parameter.item())
        if not is_vector and settings.lr_fan_in is not None:
            fan_in = parameter[0].numel()
            # Adam moves every weight alike: of many inputs the sum would move more
            factor *= min(1.0, settings.lr_fan_in / fan_in)
        decay = 0.0 if is_vector else settings.weight_decay
        by_factor_and_decay[factor, decay].append(parameter)
    groups: list[dict[str, Any]] = []
    for (factor, decay), parameters in by_factor_and_decay.items():
        peak_lr = settings.lr * factor
        # the loop sets lr anew in each step, from the peak that stays
        group = {"params": parameters, "lr": peak_lr, "peak_lr": peak_lr, "weight_decay": decay}
        groups.append(group)
    return groups


def gate_factor(value: float) -> float:
    """Factor on the rate of a single number that a whole layer is multiplied with, by its first value.

    Adam moves every number by about the rate: a gate of .02 would be shut in a dozen steps of 1.5e-3, and what lies
    behind it would learn no more. One of 0 has to open and keeps the whole rate.
    """
    return min(1.0, abs(value)) or 1.0


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Averaged weights, whose decay after n steps is at most (1 + n) / (10 + n): the first ones are soon forgotten."""

    def update(average: Any, current: Any, n_steps: Any) -> None:
        n = float(n_steps)
        now = min(decay, (1 + n) / (10 + n))
        get_ema_multi_avg_fn(now)(average, current, n_steps)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)  # statistics of norms follow the weights
