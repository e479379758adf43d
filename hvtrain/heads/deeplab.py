"""DeepLabV3+ on MobileNetV2 as HS3-Bench has it: output stride 16, any number of bands squeezed to three first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM = 32
OUTPUT_STRIDE = 16
LOW_LEVELS = 4  # stem and blocks up to the last of 24 channels, at stride 4
LOW_WIDTH, LOW_PROJECTED = 24, 48
DEEP_WIDTH = 320
WIDTH = 256  # of ASPP and of the classifier
DILATIONS = (6, 12, 18)
ASPP_DROPOUT = 0.1
PICTURE_CHANNELS = 3


def _conv_bn(n_in: int, n_out: int, side: int, **options: Any) -> list[nn.Module]:
    """A convolution without bias and its norm, as a list."""
    convolution = nn.Conv2d(n_in, n_out, side, bias=False, **options)
    return [convolution, nn.BatchNorm2d(n_out)]


def _conv_bn_relu6(n_in: int, n_out: int, side: int, **options: Any) -> nn.Sequential:
    layers = _conv_bn(n_in, n_out, side, **options)
    return nn.Sequential(*layers, nn.ReLU6())


def _conv_bn_relu(n_in: int, n_out: int, side: int, **options: Any) -> nn.Sequential:
    layers = _conv_bn(n_in, n_out, side, **options)
    return nn.Sequential(*layers, nn.ReLU())


class _InvertedResidual(nn.Module):
    """Expansion, depth-wise convolution, projection. No convolution pads: the input is padded before the expansion.

    So the border that the depth-wise convolution sees is the norm's answer to 0, not 0.
    """

    def __init__(self, n_in: int, n_out: int, *, stride: int, dilation: int, expansion: int) -> None:
        super().__init__()
        hidden = n_in * expansion
        self.adds = stride == 1 and n_in == n_out
        self.dilation = dilation
        layers: list[nn.Module] = [] if expansion == 1 else [_conv_bn_relu6(n_in, hidden, 1)]
        depth_wise = _conv_bn_relu6(hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden)
        layers.append(depth_wise)
        layers += _conv_bn(hidden, n_out, 1)  # no activation: what is projected is added as it is
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, h, w) -> (B, n_out, h / stride, w / stride), rounded up."""
        # trap: the padding is seen by the expansion, so that the border is not 0 in the depth-wise convolution
        enlarged = F.pad(x, (self.dilation,) * 4)
        change = self.conv(enlarged)
        return x + change if self.adds else change


def _blocks() -> list[nn.Module]:
    """Stem and all blocks; once the output stride is reached, dilation grows instead of the stride."""
    blocks: list[nn.Module] = [_conv_bn_relu6(PICTURE_CHANNELS, STEM, 3, stride=2)]  # no padding here either
    n_in, reached, dilation = STEM, 2, 1
    for expansion, n_out, repeats, step in STAGES:
        first_dilation, stride = dilation, step  # the first block of a stage still has the dilation before
        if reached == OUTPUT_STRIDE:
            stride, dilation = 1, dilation * step
        reached *= stride
        for k in range(repeats):
            block = _InvertedResidual(
                n_in,
                n_out,
                stride=stride if k == 0 else 1,
                dilation=first_dilation if k == 0 else dilation,
                expansion=expansion,
            )
            blocks.append(block)
            n_in = n_out
    return blocks


class _MobileNet(nn.Module):
    """MobileNetV2 without its last convolution, in two parts; blocks are numbered through both."""

    def __init__(self) -> None:
        super().__init__()
        blocks = _blocks()
        self.low_level_features = nn.Sequential(*blocks[:LOW_LEVELS])
        self.high_level_features = nn.Sequential()
        for k, block in enumerate(blocks[LOW_LEVELS:], start=LOW_LEVELS):
            self.high_level_features.add_module(str(k), block)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, 24, H / 4, W / 4) and (B, 320, H / 16, W / 16) of (B, 3, H, W)."""
        low = self.low_level_features(x)
        return low, self.high_level_features(low)


class _Aspp(nn.Module):
    """A map seen at several distances, and its mean."""

    def __init__(self) -> None:
        super().__init__()
        branches: list[nn.Module] = [_conv_bn_relu(DEEP_WIDTH, WIDTH, 1)]
        for dilation in DILATIONS:
            # padded by as much as it reaches: the size stays
            far = _conv_bn_relu(DEEP_WIDTH, WIDTH, 3, padding=dilation, dilation=dilation)
            branches.append(far)
        of_mean = _conv_bn(DEEP_WIDTH, WIDTH, 1)
        mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), *of_mean, nn.ReLU())
        self.convs = nn.ModuleList([*branches, mean])
        together = _conv_bn(len(self.convs) * WIDTH, WIDTH, 1)
        self.project = nn.Sequential(*together, nn.ReLU(), nn.Dropout(ASPP_DROPOUT))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 320, h, w) -> (B, 256, h, w)."""
        size = x.shape[2:]
        branches = [_resized(conv(x), size) for conv in self.convs]  # the mean is spread over the map
        return self.project(torch.cat(branches, dim=1))


class _Classifier(nn.Module):
    """Deep features beside shallow ones, to logits at the shallow ones' size."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.project = _conv_bn_relu(LOW_WIDTH, LOW_PROJECTED, 1)
        self.aspp = _Aspp()
        together = _conv_bn(LOW_PROJECTED + WIDTH, WIDTH, 3, padding=1)
        last = nn.Conv2d(WIDTH, n_classes, 1)
        self.classifier = nn.Sequential(*together, nn.ReLU(), last)

    def forward(self, low: Tensor, deep: Tensor) -> Tensor:
        """(B, classes, H / 4, W / 4)."""
        shallow = self.project(low)
        far = _resized(self.aspp(deep), shallow.shape[2:])
        beside = torch.cat([shallow, far], dim=1)  # (B, 304, H / 4, W / 4)
        return self.classifier(beside)


class DeepLabV3Plus(nn.Module):
    """Any bands to logits at their size. In training mode a batch needs two images: the mean branch has one pixel."""

    def __init__(self, n_channels: int, n_classes: int) -> None:
        super().__init__()
        self.squeezes = n_channels != PICTURE_CHANNELS
        if self.squeezes:
            self.input_layer = nn.Conv2d(n_channels, PICTURE_CHANNELS, 1)
        self.backbone = _MobileNet()
        self.classifier = _Classifier(n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of (B, C, H, W)."""
        picture = self.input_layer(x) if self.squeezes else x
        low, deep = self.backbone(picture)
        logits = self.classifier(low, deep)
        return _resized(logits, x.shape[2:])


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, D, h, w) of another size, bilinear."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
