"""How two descriptions of a band become one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DROPOUT = 0.1


class Fusion(nn.Module):
    """Of two vectors a joint one, added to the first as it is projected (not as it came)."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.modal1_proj = nn.Linear(planes, planes)
        self.modal2_proj = nn.Linear(planes, planes)
        self.fusion = nn.Sequential(nn.Linear(2 * planes, planes), nn.LayerNorm(planes), nn.GELU(), nn.Dropout(DROPOUT))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(..., w) and (..., w) -> (..., w)."""
        first = self.modal1_proj(first)
        second = self.modal2_proj(second)
        both = torch.cat([first, second], dim=-1)
        return self.fusion(both) + first
