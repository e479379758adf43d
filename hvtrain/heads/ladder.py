"""The way up of a U-Net on a backbone's last tap: widths halve from the backbone's own, so that one class suits all."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.heads.agunet import Gate
from hvtrain.heads.views import View, at_image_size, padded_picture

STEPS = 4
DROPOUT = 0.25  # of the tap, element by element: the regularisation of RU-Net


class _Step(nn.Module):
    """Twice the size, half the channels, beside the picture at that size where there are skips."""

    def __init__(self, n_in: int, n_picture: int, *, gates: bool) -> None:
        super().__init__()
        half = n_in // 2
        self.narrow = nn.Conv2d(n_in, half, 1)
        self.skip = self.gate = None
        if n_picture:
            of_picture = nn.Conv2d(n_picture, half, 1)
            self.skip = nn.Sequential(of_picture, nn.BatchNorm2d(half), nn.ReLU())
            self.gate = Gate(half, n_in) if gates else None
        layers: list[nn.Module] = []
        beside = n_in if n_picture else half  # with a skip half of the channels are the picture's
        for n_before, n_after in pairwise((beside, half, half)):
            convolution = nn.Conv2d(n_before, n_after, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(n_after), nn.ReLU()]
        self.convs = nn.Sequential(*layers)

    def forward(self, x: Tensor, picture: Tensor | None) -> Tensor:
        """(B, n_in / 2, 2 h, 2 w) of a map (B, n_in, h, w) and a picture (B, C, H, W)."""
        enlarged = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        up = self.narrow(enlarged)
        if self.skip is None:
            return self.convs(up)
        assert picture is not None
        # a mean over the area of each cell: the map has the same cells, so that nothing has to be cut or padded
        cells = F.adaptive_avg_pool2d(picture, up.shape[2:])
        beside = self.skip(cells)
        if self.gate is not None:
            beside = self.gate(beside, x)
        return self.convs(torch.cat([beside, up], dim=1))


class Ladder(nn.Module):
    """9.63 E^2 + 0.94 E C + K E / 16 weights with skips.

    n_channels : C of the picture beside the maps; 0: no skips, the backbone alone
    width      : E, channels of the tap, a multiple of 16
    gates      : attention gates on the skips
    """

    def __init__(self, n_channels: int, n_classes: int, *, width: int, gates: bool = False) -> None:
        super().__init__()
        self.dropout = nn.Dropout(DROPOUT)
        self.steps = nn.ModuleList(_Step(width >> k, n_channels, gates=gates) for k in range(STEPS))
        self.out = nn.Conv2d(width >> STEPS, n_classes, 1)

    def forward(self, view: View) -> Tensor:
        """Logits (B, classes, H, W)."""
        x = self.dropout(view.maps[-1])
        picture = None if view.picture is None else padded_picture(view)
        for step in self.steps:
            x = step(x, picture)
        return at_image_size(self.out(x), view)
