"""What is done to each tap of the spatial transformer before it is used, by the side of a patch."""

from __future__ import annotations

from torch import Tensor, nn

from hvlabel.errors import ConfigError
from hvtrain.backbones.hypersigma.sizes import EPS

Layers = tuple[nn.Module, nn.Module, nn.Module, nn.Module]


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, D, h, w); under `ln`, as published."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> same shape."""
        channels_last = x.permute(0, 2, 3, 1)
        return self.ln(channels_last).permute(0, 3, 1, 2)


def doubled(width: int) -> nn.ConvTranspose2d:
    """A layer that doubles the size of a map."""
    return nn.ConvTranspose2d(width, width, 2, stride=2)


def pyramid(patch_px: int, width: int, *, patch_file: bool) -> Layers:
    """Layers for the first to the last tap; ConfigError for a patch that no published network has.

    The last, deepest tap is pooled most.
    """
    # a lone doubling too is in a Sequential: the published names of its weights end in .0
    if patch_px in (1, 2):
        return nn.Sequential(doubled(width)), nn.Identity(), nn.MaxPool2d(2), nn.MaxPool2d(4)
    if patch_px in (4, 8):
        return nn.Identity(), nn.Identity(), nn.MaxPool2d(2), nn.MaxPool2d(4)
    if patch_px == 16 and patch_file:
        fourfold = nn.Sequential(doubled(width), ChannelNorm(width), nn.GELU(), doubled(width))
        twofold = nn.Sequential(doubled(width))
        return fourfold, twofold, nn.Identity(), nn.MaxPool2d(2)
    if patch_px == 16 or (patch_px == 11 and patch_file):
        return nn.Identity(), nn.Identity(), nn.Identity(), nn.Identity()
    raise ConfigError(f"HyperSIGMA has no patches of {patch_px} px; choose 1, 2, 4, 8 or 16")
