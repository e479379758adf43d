"""The attention-gated U-Net of HS3-Bench: what the way down had is weighed by what is known from deeper levels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.heads.unet import BASE_WIDTH, DoubleConv, Out, Up, require_size


class Gate(nn.Module):
    """A weight in [0, 1] for each pixel of a map, from the map and from a signal of half its size."""

    def __init__(self, n_map: int, n_signal: int) -> None:
        super().__init__()
        self.conv1x1_g = nn.Conv2d(n_signal, n_map, 1)
        self.conv1x1_x = nn.Conv2d(n_map, n_map, 1)
        self.downsample = nn.Conv2d(n_map, n_map, 3, stride=2, padding=1)
        self.conv1x1_psi = nn.Conv2d(n_map, 1, 1)

    def weights(self, x: Tensor, signal: Tensor) -> Tensor:
        """(B, 1, H, W) of (B, n_map, H, W) and (B, n_signal, H / 2, W / 2), rounded down."""
        height, width = x.shape[2:]
        signal_height, signal_width = signal.shape[2:]
        missing = (0, width - 2 * signal_width, 0, height - 2 * signal_height)  # 0 or 1, right and bottom
        small = self.downsample(self.conv1x1_x(F.pad(x, missing)))
        beside = self.conv1x1_g(F.pad(signal, missing))
        agreed = F.relu(small + beside)
        weights = torch.sigmoid(self.conv1x1_psi(agreed))
        large = F.interpolate(weights, scale_factor=2, mode="bilinear", align_corners=True)
        return large[:, :, :height, :width]

    def forward(self, x: Tensor, signal: Tensor) -> Tensor:
        """The map (B, n_map, H, W), weighed."""
        return x * self.weights(x, signal)


class _Down(nn.Module):
    """Half the size; no dropout, which shows in the names of the weights."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        convs = DoubleConv(n_in, n_out, biases=True)
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), convs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, H, W) -> (B, n_out, H / 2, W / 2), rounded down."""
        return self.maxpool_conv(x)


class AttentionUNet(nn.Module):
    """U-Net with a gate on each of its four skips; its convolutions have biases beside their norms."""

    def __init__(self, n_channels: int, n_classes: int, *, width: int = BASE_WIDTH) -> None:
        super().__init__()
        self.inc = DoubleConv(n_channels, width, biases=True)
        self.down1 = _Down(width, 2 * width)
        self.down2 = _Down(2 * width, 4 * width)
        self.down3 = _Down(4 * width, 8 * width)
        self.down4 = _Down(8 * width, 8 * width)
        self.ag4 = Gate(8 * width, 8 * width)
        self.ag3 = Gate(4 * width, 4 * width)
        self.ag2 = Gate(2 * width, 2 * width)
        self.ag1 = Gate(width, width)
        self.up1 = Up(16 * width, 4 * width, norms=True, biases=True)
        self.up2 = Up(8 * width, 2 * width, norms=True, biases=True)
        self.up3 = Up(4 * width, width, norms=True, biases=True)
        self.up4 = Up(2 * width, width, norms=True, biases=True)
        self.outc = Out(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of (B, C, H, W), at least 16 px a side; else ConfigError."""
        require_size(x)
        first = self.inc(x)
        down1 = self.down1(first)
        down2 = self.down2(down1)
        down3 = self.down3(down2)
        # each level up is the signal of the next gate
        x = self.down4(down3)
        x = self.up1(x, self.ag4(down3, x))
        x = self.up2(x, self.ag3(down2, x))
        x = self.up3(x, self.ag2(down1, x))
        x = self.up4(x, self.ag1(first, x))
        return self.outc(x)
