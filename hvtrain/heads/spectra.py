"""What is put on HyperSL's vector of each pixel: HyperSL-FC and HyperSL-RU-Net."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hvtrain.backbones.hypersl import HyperSlEncoder
from hvtrain.heads.unet import BASE_WIDTH, UNet


class SpectrumClassifier(nn.Module):
    """HyperSL-FC: one linear layer on the vector of a spectrum.

    frozen : the encoder does not learn
    """

    def __init__(self, encoder: HyperSlEncoder, n_classes: int, *, frozen: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        if frozen:
            encoder.requires_grad_(False)
        self.fc = nn.Linear(encoder.topology.width, n_classes)

    def forward(self, cube: Tensor, wavelengths_nm: Sequence[float]) -> Tensor:
        """Logits (B, classes, H, W) of each pixel of (B, C, H, W); N spectra are an image of 1 x N."""
        maps = self.encoder.maps(cube, wavelengths_nm)
        per_pixel = maps.movedim(1, -1)  # (B, H, W, D): a linear layer takes channels last
        logits = self.fc(per_pixel)
        return logits.movedim(-1, 1)


class SpectralSegmentation(nn.Module):
    """HyperSL-RU-Net: the vectors of all pixels as the channels of RU-Net's input.

    frozen : the encoder does not learn; its maps are made without keeping activations
    width  : channels of RU-Net's first level
    """

    def __init__(
        self, encoder: HyperSlEncoder, n_classes: int, *, frozen: bool = True, width: int = BASE_WIDTH
    ) -> None:
        super().__init__()
        self.encoder, self.frozen = encoder, frozen
        if frozen:
            encoder.requires_grad_(False)
        self.unet = UNet(encoder.topology.width, n_classes, width=width)

    def forward(self, cube: Tensor, wavelengths_nm: Sequence[float]) -> Tensor:
        """Logits (B, classes, H, W) of (B, C, H, W), at least 16 px a side."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self.encoder.maps(cube, wavelengths_nm)
        return self.unet(maps)
