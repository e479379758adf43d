"""What is known of each band, as a vector: wavelength, width, sensor, level, and the camera's other bands."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hvtrain.backbones.specaware.camera import RANGE_NM, Camera
from hvtrain.backbones.specaware.fusion import Fusion
from hvtrain.backbones.specaware.sentences import WIDTH as SENTENCE_WIDTH
from hvtrain.backbones.specaware.sentences import read_sentences

FWHM_HIDDEN = 64
FWHM_NM = (5.0, 15.0)  # what the width's code takes for 0 and 1; others are not clipped
FIRST_SHARES = (0.8, 0.2)  # logits of wavelength and width
BAND_HEADS = 4


def wavelength_code(wavelengths_nm: Tensor, planes: int) -> Tensor:
    """(..., w) float32: sines, then cosines, of waves that are evenly spaced in the logarithm. A padded band: 0, 1."""
    low, high = (math.log10(nm) for nm in RANGE_NM)
    waves = torch.logspace(low, high, planes // 2, dtype=torch.float64, device=wavelengths_nm.device)
    angle = 2 * math.pi * wavelengths_nm.double()[..., None] / waves  # (..., w / 2)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()


class _Mlp(nn.Module):
    """Two linear layers; under `mlp`, as published."""

    def __init__(self, n_in: int, hidden: int, n_out: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(n_in, hidden), nn.GELU(), nn.Linear(hidden, n_out))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_in) -> (..., n_out)."""
        return self.mlp(x)


class _SentenceCode(nn.Module):
    """One linear layer for sensor and level alike; under `fc`, as published."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(SENTENCE_WIDTH, planes // 2)

    def forward(self, sensor: Tensor, level: Tensor) -> Tensor:
        """(w,) of two sentence vectors (384,)."""
        return torch.cat([self.fc(sensor), self.fc(level)])


class SpectralEmbedding(nn.Module):
    """A vector for each band of a camera.

    sentences : vectors by name; they are no weights and in no published file
    """

    sentences: Mapping[str, Tensor]

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.planes = planes
        self.sentences = read_sentences()
        self.fusion_weights = nn.Parameter(torch.tensor(FIRST_SHARES))
        self.fwhm_encoder = _Mlp(1, FWHM_HIDDEN, planes)
        self.attribute_encoder = _SentenceCode(planes)
        self.spectral_enhancement_mlp = _Mlp(planes, 2 * planes, planes)
        self.cross_modal_fusion = Fusion(planes)

    def forward(self, camera: Camera, batch: int) -> Tensor:
        """(B, C, w)."""
        device = self.fusion_weights.device
        spectral = self.spectral(camera, batch)  # (B, C, w)
        sensor, level = (self.sentences[name].to(device) for name in camera.names())
        attributes = self.attribute_encoder(sensor, level).expand_as(spectral)
        return self.cross_modal_fusion(spectral, attributes) + spectral

    def spectral(self, camera: Camera, batch: int) -> Tensor:
        """(B, C, w): wavelength and width alone."""
        wavelengths_nm, fwhm_nm = camera.bands(batch, self.fusion_weights.device)
        shares = self.fusion_weights.softmax(dim=0)
        low, high = FWHM_NM
        widths = (fwhm_nm[..., None] - low) / (high - low)
        of_centres = wavelength_code(wavelengths_nm, self.planes)
        of_widths = self.fwhm_encoder(widths)
        mixed = shares[0] * of_centres + shares[1] * of_widths
        return mixed + self.spectral_enhancement_mlp(mixed)


class BandTransformer(nn.Module):
    """One layer in which the bands of a camera look at each other; it knows no order of them."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            planes,
            BAND_HEADS,
            dim_feedforward=planes,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.transformer_encoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False)

    def forward(self, bands: Tensor) -> Tensor:
        """(B, C, w) -> (B, C, w), with a residual around the layer's own."""
        return self.transformer_encoder(bands) + bands
