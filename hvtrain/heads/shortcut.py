"""A throw-away head from the feature under a click straight to the mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 96
MIN_SIZE = 1e-3  # added to a target's mean square, which may be 0
FIRST_BIAS = -0.5  # of the first channel: an empty mask is the first answer, as in heads.first_weights


class Shortcut(nn.Module):
    """From the feature under the click to the vector that a mask token should arrive at.

    It trains encoder and upscaling at once, and shows the decoder's hypernetworks what to say: through prompts alone
    they would need many thousands of steps to find out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        first, last = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, width // 8)
        self.layers = nn.Sequential(first, nn.GELU(), last)
        nn.init.constant_(last.bias[:1], FIRST_BIAS)

    def forward(self, neck: Tensor, points_xy: Tensor) -> Tensor:
        """(N, D/8) vectors of neck (B, D, g, g) at clicks (B, K, 2) in [0, 1] of the image, N = B * K."""
        clicked = features_at(neck, points_xy).transpose(1, 2)  # (B, K, D)
        flat = clicked.flatten(0, 1)  # (N, D)
        return self.layers(self.norm(flat))


def features_at(maps: Tensor, points_xy: Tensor) -> Tensor:
    """(B, D, K) features of maps (B, D, h, w) at points (B, K, 2) in [0, 1] of the image, bilinear."""
    grid = points_xy[:, :, None] * 2 - 1  # grid_sample counts from -1 to 1
    sampled = F.grid_sample(maps, grid, align_corners=False, padding_mode="border")  # (B, D, K, 1)
    return sampled[..., 0]


def relative_distance(vectors: Tensor, target: Tensor) -> Tensor:
    """(N,) mean squared distance of vectors (N, M, E) from target (N, E), relative to the target's size."""
    apart = vectors - target[:, None]  # (N, M, E)
    distance = apart.square().mean(dim=(1, 2))
    size = target.square().mean(dim=1)
    return distance / (size + MIN_SIZE)


def masks_of(vectors: Tensor, upscaled: Tensor) -> Tensor:
    """(N, 1, L, L) logits: vectors (N, E) times the decoder's upscaled features (N, E, L, L)."""
    return torch.einsum("nc,nchw->nhw", vectors, upscaled)[:, None]
