"""U-Net and RU-Net of HS3-Bench: any channels of an image to logits at its size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.errors import ConfigError

BASE_WIDTH = 64
DROPOUT = 0.25  # of RU-Net, before its deepest convolutions; element by element
SMALLEST_PX = 16


def require_size(x: Tensor) -> None:
    """ConfigError for images (B, C, H, W) of which four halvings leave nothing."""
    height_px, width_px = x.shape[-2:]
    if min(height_px, width_px) < SMALLEST_PX:
        raise ConfigError(
            f"an image of {height_px} x {width_px} px; this head halves it four times: give {SMALLEST_PX} px a side"
        )


class DoubleConv(nn.Module):
    """Two convolutions; with batch norms they have biases only where `biases` asks for them."""

    def __init__(
        self, n_in: int, n_out: int, middle: int | None = None, *, norms: bool = True, biases: bool = False
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        middle = middle or n_out
        has_biases = biases or not norms  # before a norm a bias would be taken off again
        for n_before, n_after in ((n_in, middle), (middle, n_out)):
            layers.append(nn.Conv2d(n_before, n_after, 3, padding=1, bias=has_biases))
            layers += [nn.BatchNorm2d(n_after)] if norms else []
            layers.append(nn.ReLU())
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, H, W) -> (B, n_out, H, W)."""
        return self.double_conv(x)


class Down(nn.Module):
    """Half the size, twice the channels or as many."""

    def __init__(self, n_in: int, n_out: int, *, norms: bool, dropout: float = 0.0) -> None:
        super().__init__()
        convs = DoubleConv(n_in, n_out, norms=norms)
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), nn.Dropout(dropout), convs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, H, W) -> (B, n_out, H / 2, W / 2), rounded down."""
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Twice the size, beside what the way down had at that size."""

    def __init__(self, n_in: int, n_out: int, *, norms: bool, biases: bool = False) -> None:
        super().__init__()
        self.conv = DoubleConv(n_in, n_out, n_in // 2, norms=norms, biases=biases)

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        """(B, n_out, H, W) of (B, n, h, w) and of (B, n_in - n, H, W)."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        missing_rows = skipped.shape[2] - x.shape[2]
        missing_columns = skipped.shape[3] - x.shape[3]
        left, top = missing_columns // 2, missing_rows // 2
        # an odd side loses a pixel on the way down: it comes back as zeros at the right and bottom
        x = F.pad(x, (left, missing_columns - left, top, missing_rows - top))
        beside = torch.cat([skipped, x], dim=1)
        return self.conv(beside)


class Out(nn.Module):
    """The last layer; under `conv`, as published."""

    def __init__(self, n_in: int, n_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, H, W) -> (B, classes, H, W)."""
        return self.conv(x)


class UNet(nn.Module):
    """With norms and dropout RU-Net, without either U-Net.

    reduced : channels that a first layer brings the input to; none: as they are
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        width: int = BASE_WIDTH,
        norms: bool = True,
        dropout: float = DROPOUT,
        reduced: int | None = None,
    ) -> None:
        super().__init__()
        if reduced is not None:
            self.dr_layer = nn.Conv2d(n_channels, reduced, 1)
        self.reduces = reduced is not None
        self.inc = DoubleConv(reduced or n_channels, width, norms=norms)
        self.down1 = Down(width, 2 * width, norms=norms)
        self.down2 = Down(2 * width, 4 * width, norms=norms)
        self.down3 = Down(4 * width, 8 * width, norms=norms)
        self.down4 = Down(8 * width, 8 * width, norms=norms, dropout=dropout)
        self.up1 = Up(16 * width, 4 * width, norms=norms)
        self.up2 = Up(8 * width, 2 * width, norms=norms)
        self.up3 = Up(4 * width, width, norms=norms)
        self.up4 = Up(2 * width, width, norms=norms)
        self.outc = Out(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of (B, C, H, W), at least 16 px a side; else ConfigError."""
        require_size(x)
        reduced = self.dr_layer(x) if self.reduces else x
        first = self.inc(reduced)
        down1 = self.down1(first)
        down2 = self.down2(down1)
        down3 = self.down3(down2)
        deepest = self.down4(down3)
        x = self.up1(deepest, down3)
        x = self.up2(x, down2)
        x = self.up3(x, down1)
        x = self.up4(x, first)
        return self.outc(x)
