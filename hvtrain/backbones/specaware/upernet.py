"""Segmentation as published: the encoder's taps through a feature pyramid and UPerNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.backbones.specaware.camera import Camera
from hvtrain.backbones.specaware.encoder import SpecAwareEncoder
from hvtrain.backbones.specaware.sizes import Sizes

SCALES = (4.0, 2.0, 1.0, 0.5)  # of the token grid, of the pyramid's levels
POOLED_SIDES = (1, 2, 3, 6)


def conv_bn_relu(n_in: int, n_out: int, side: int) -> nn.Sequential:
    """A convolution without bias, a batch norm and a ReLU."""
    conv = nn.Conv2d(n_in, n_out, side, padding=side // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out), nn.ReLU())


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, D, h, w) of another size, bilinear."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class Neck(nn.Module):
    """Maps of one size to a pyramid."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(nn.Conv2d(n_in, n_out, 1) for _ in SCALES)
        self.convs = nn.ModuleList(nn.Conv2d(n_out, n_out, 3, padding=1) for _ in SCALES)

    def forward(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """(B, D, h, w) each -> levels, the largest first."""
        levels = []
        for tap, lateral, conv, scale in zip(taps, self.lateral_convs, self.convs, SCALES, strict=True):
            size = [int(side * scale) for side in tap.shape[-2:]]
            scaled = resized(lateral(tap), size)
            levels.append(conv(scaled))
        return levels


class PyramidPooling(nn.Module):
    """A map beside its means over coarse grids."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter = channels // len(POOLED_SIDES)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), conv_bn_relu(channels, quarter, 1)) for side in POOLED_SIDES
        )
        self.out_conv = conv_bn_relu(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> same shape."""
        pooled = [resized(block(x), x.shape[-2:]) for block in self.blocks]
        return self.out_conv(torch.cat([x, *pooled], dim=1))


class _Stage(nn.Module):
    """One step up the pyramid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.skip_conv = conv_bn_relu(channels, channels, 1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """The coarser result at the size of a level, and the level."""
        return resized(x, level.shape[-2:]) + self.skip_conv(level)


class Decoder(nn.Module):
    """A pyramid to one map of the image's size."""

    def __init__(self, channels: int, n_out: int, patch_px: int) -> None:
        super().__init__()
        self.enlarged = max(1, patch_px // 4)  # the largest level has four cells per token
        self.psp = PyramidPooling(channels)
        self.fpn_stages = nn.ModuleList(_Stage(channels) for _ in SCALES[1:])
        self.fpn_bottleneck = conv_bn_relu(len(SCALES) * channels, n_out, 3)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels, the largest first -> (B, n_out, H, W)."""
        largest = levels[0].shape[-2:]
        results = [self.psp(levels[-1])]  # the coarsest first
        for stage, level in zip(self.fpn_stages, reversed(levels[:-1]), strict=True):
            results.append(stage(results[-1], level))
        size = [side * self.enlarged for side in largest]
        of_one_size = [resized(result, size) for result in results]
        return self.fpn_bottleneck(torch.cat(of_one_size, dim=1))


class SpecAwareSegmentation(nn.Module):
    """Cube of any camera to logits of classes.

    pyramid, segmentation : channels of the pyramid and of the decoder's output
    """

    def __init__(self, sizes: Sizes, n_classes: int, pyramid: int = 256, segmentation: int = 64) -> None:
        super().__init__()
        self.encoder = SpecAwareEncoder(sizes)
        self.neck = Neck(sizes.width, pyramid)
        self.decoder = Decoder(pyramid, segmentation, sizes.patch_px)
        self.segmentation_head = nn.Sequential(nn.Conv2d(segmentation, n_classes, 1))

    def tokens(self, cube: Tensor, camera: Camera) -> Tensor:
        """As the encoder."""
        return self.encoder.tokens(cube, camera)

    def taps(self, cube: Tensor, camera: Camera) -> list[Tensor]:
        """As the encoder."""
        return self.encoder.taps(cube, camera)

    def forward(self, cube: Tensor, camera: Camera) -> Tensor:
        """Logits (B, classes, H, W) of (B, C, H, W) with patches of at least 4 px."""
        levels = self.neck(self.encoder.taps(cube, camera))
        return self.segmentation_head(self.decoder(levels))
