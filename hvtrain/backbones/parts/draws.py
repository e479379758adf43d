"""A network's own draws: none without a source, and with one the same for the same source."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def drawing(network: nn.Module, rng: random.Random | None, device: torch.device) -> Iterator[None]:
    """Dropout and skipped branches drawn from rng; without one the network is in evaluation mode meanwhile.

    So a resumed run draws what it would have drawn, however far torch's own generators have come.
    """
    if rng is None:
        in_training = [module for module in network.modules() if module.training]
        network.eval()
        try:
            yield
        finally:
            for module in in_training:  # one by one: a part may be frozen in evaluation mode
                module.training = True
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(rng.getrandbits(62))
        yield
