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
        rows = max(of_scale.shape[2] for of_scale in view.maps)  # of the finest map
        columns = max(of_scale.shape[3] for of_scale in view.maps)
        beside = []
        for of_scale in view.maps:
            enlarged = F.interpolate(of_scale, size=(rows, columns), mode="bilinear", align_corners=False)
            beside.append(enlarged)
        together = torch.cat(beside, dim=1)  # (B, sum of D, h, w)
        # enlarged afterwards: a 1 x 1 layer and an interpolation may change places, and logits are fewer
        logits = self.out(self.norm(together))
        return at_image_size(logits, view)
