"""Heads as published: the spectral transformer gates the channels of the spatial one's maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hvtrain.backbones.hypersigma.spatial import SpatVit, full_size
from hvtrain.backbones.hypersigma.spectral import SUMMARY, SpecVit

REDUCED = 128  # channels of each map in the heads, as published
UNUSED_OF_HEADS = ("conv_features.",)


def gate(n_tokens: int, channels: int) -> nn.Sequential:
    """From one number per spectral token to one share per channel."""
    inner = nn.Linear(n_tokens, REDUCED, bias=False)
    outer = nn.Linear(REDUCED, channels, bias=False)
    return nn.Sequential(inner, nn.ReLU(), outer, nn.Sigmoid())


class Gates(nn.Module):
    """The four gates, the first of which is the deepest map's."""

    def add_gates(self, n_tokens: int, channels: int) -> None:
        """Make the gates. channels: of the maps that they act on."""
        self.fc_spec1 = gate(n_tokens, channels)
        self.fc_spec2 = gate(n_tokens, channels)
        self.fc_spec3 = gate(n_tokens, channels)
        self.fc_spec4 = gate(n_tokens, channels)

    def gates_of(self, summary: Tensor) -> list[Tensor]:
        """Shares (B, channels) of the first spectral tap (B, T, 128), for the deepest map first."""
        per_token = summary.mean(dim=-1)  # (B, T)
        layers = (self.fc_spec1, self.fc_spec2, self.fc_spec3, self.fc_spec4)
        return [layer(per_token) for layer in layers]


def gated(features: Tensor, shares: Tensor) -> Tensor:
    """(B, D, h, w) with each channel raised by its share (B, D)."""
    return features * (1 + shares)[..., None, None]  # shares lie in (0, 1): no channel is lost, the largest doubles


class Fused(Gates):
    """What both heads share: two encoders, gates, and a reduction of each map."""

    def __init__(self, spatial: SpatVit, spectral: SpecVit, gated_channels: int) -> None:
        super().__init__()
        width = spatial.topology.width
        self.spat_encoder, self.spec_encoder = spatial, spectral
        self.DR1, self.DR2, self.DR3, self.DR4 = (nn.Conv2d(width, REDUCED, 1, bias=False) for _ in range(4))
        self.add_gates(spectral.n_tokens, gated_channels)

    def gates(self, cube: Tensor) -> list[Tensor]:
        """Shares of the channels, for the deepest map first."""
        summary, *_ = self.spec_encoder.taps(cube)  # the first tap alone is projected
        return self.gates_of(summary)

    def reductions(self) -> Sequence[nn.Module]:
        """Layers, for the deepest map first."""
        return (self.DR1, self.DR2, self.DR3, self.DR4)


class Segmentation(Fused):
    """Cube to logits of every pixel's classes."""

    def __init__(self, spatial: SpatVit, spectral: SpecVit, n_classes: int, *, unused: bool = False) -> None:
        super().__init__(spatial, spectral, gated_channels=spatial.topology.width)
        if unused:
            self.conv_features = nn.Conv2d(spatial.topology.width, SUMMARY, 1, bias=False)
        self.conv = nn.Conv2d(4 * REDUCED, REDUCED, 1)
        self.cls = nn.Conv2d(REDUCED, n_classes, 1)

    def reduced(self, cube: Tensor) -> list[Tensor]:
        """(B, 128, H, W) of each map, the deepest first.

        Gates and reductions act on the small map: channel by channel they commute with its enlargement.
        """
        deepest_first = self.spat_encoder.taps(cube)[::-1]
        maps = []
        for layer, tap, shares in zip(self.reductions(), deepest_first, self.gates(cube), strict=True):
            reduced = layer(gated(tap, shares))  # (B, 128, h, w)
            maps.append(full_size(reduced, cube.shape[-2:]))
        return maps

    def fused(self, cube: Tensor) -> Tensor:
        """(B, 128, H, W)."""
        together = torch.cat(self.reduced(cube), dim=1)  # (B, 512, H, W)
        return self.conv(together)

    def forward(self, cube: Tensor) -> Tensor:
        """Logits (B, H * W, classes) of (B, C, H, W), row-major."""
        logits = self.cls(self.fused(cube))  # (B, classes, H, W)
        return logits.flatten(2).transpose(1, 2)


class PatchClassification(Fused):
    """A small window to logits of the classes of its middle."""

    DROPOUT = 0.4
    UNUSED_FEATURES = 64

    def __init__(self, spatial: SpatVit, spectral: SpecVit, n_classes: int, *, unused: bool = False) -> None:
        super().__init__(spatial, spectral, gated_channels=REDUCED)
        if unused:
            self.conv_features = nn.Conv2d(spatial.topology.width, self.UNUSED_FEATURES, 1, bias=False)
            self.conv = nn.Conv2d(4 * REDUCED, REDUCED, 1)
        # as published there is nothing between the layers that would bend
        self.classifier = nn.Sequential(
            nn.Linear(4 * REDUCED, 2 * REDUCED),
            nn.Dropout(self.DROPOUT),
            nn.Linear(2 * REDUCED, REDUCED),
            nn.Dropout(self.DROPOUT),
            nn.Linear(REDUCED, n_classes),
        )

    def reduced(self, cube: Tensor) -> list[Tensor]:
        """(B, 128, h, w) of each map, the deepest first, before their gates."""
        deepest_first = self.spat_encoder.taps(cube)[::-1]
        pairs = zip(self.reductions(), deepest_first, strict=True)
        return [layer(tap) for layer, tap in pairs]

    def fused(self, cube: Tensor) -> Tensor:
        """(B, 512): the mean of each gated map."""
        means = []
        for features, shares in zip(self.reduced(cube), self.gates(cube), strict=True):
            raised = gated(features, shares)
            means.append(raised.mean(dim=(2, 3)))  # (B, 128)
        return torch.cat(means, dim=1)

    def forward(self, cube: Tensor) -> Tensor:
        """Logits (B, classes) of (B, C, H, W)."""
        return self.classifier(self.fused(cube))
