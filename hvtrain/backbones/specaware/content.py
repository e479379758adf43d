"""What each band shows, as a vector: read from two thumbnails of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.backbones.specaware.fusion import DROPOUT


class ContentExtractor(nn.Module):
    """Mean and largest value under each cell of a coarse grid, each through a small network.

    Published are two poolings: in pre-training cells as large as a patch, afterwards 28 x 28 cells of any image. Both
    are adaptive pooling to the side that the first layer was made for.
    """

    def __init__(self, planes: int, thumbnail_px: int) -> None:
        super().__init__()
        self.thumbnail_px = thumbnail_px
        pixels = thumbnail_px**2
        self.avg_feature_encoder = _reader(pixels, planes)
        self.max_feature_encoder = _reader(pixels, planes)
        self.feature_fusion = nn.Sequential(
            nn.Linear(2 * planes, 2 * planes), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(2 * planes, planes)
        )
        self.layer_norm = nn.LayerNorm(planes)

    def forward(self, cube: Tensor) -> Tensor:
        """(B, C, w) of (B, C, H, W)."""
        mean, largest = self.thumbnails(cube)
        of_mean = self.avg_feature_encoder(mean.flatten(2))
        of_largest = self.max_feature_encoder(largest.flatten(2))
        both = torch.cat([of_mean, of_largest], dim=-1)  # (B, C, 2w)
        return self.layer_norm(self.feature_fusion(both))

    def thumbnails(self, cube: Tensor) -> tuple[Tensor, Tensor]:
        """Means and largest values of (B, C, H, W), each (B, C, s, s); a smaller image repeats its pixels."""
        return F.adaptive_avg_pool2d(cube, self.thumbnail_px), F.adaptive_max_pool2d(cube, self.thumbnail_px)


def _reader(pixels: int, planes: int) -> nn.Sequential:
    """A network from a thumbnail to a vector."""
    hidden = pixels // 4
    return nn.Sequential(nn.Linear(pixels, hidden), nn.GELU(), nn.Linear(hidden, planes))
