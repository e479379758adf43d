"""The honest measure of a backbone: a straight line through its features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.heads.views import View, at_image_size


class LinearHead(nn.Module):
    """A batch norm on all maps side by side, then one linear layer per cell.

    widths : channels of each map
    """

    def __init__(self, n_classes: int, *, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.norm = nn.BatchNorm2d(sum(widths))
        self.out = nn.Conv2d(sum(widths), n_classes, 1)

    def forward(self, view: View) -> Tensor:
        """Logits (B, classes, H, W)."""
        size = tuple(max(m.shape[axis] for m in view.maps) for axis in (2, 3))  # of the finest map
        beside = [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in view.maps]
        logits = self.out(self.norm(torch.cat(beside, dim=1)))
        return at_image_size(logits, view)
