"""HyperFree's spectral dictionary as a patch embedding: a kernel per slot of the spectrum, whatever the camera."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.errors import BandError
from hvlabel.models.hyperfree import choose_channels
from hvlabel.models.hyperfree.spectral import CUBE_SLOTS_NM, KEY_SLOTS_NM

SPREAD = 0.02  # of untrained kernels


class DictionaryEmbed(nn.Module):
    """Patches of any camera to tokens; names of the weights are HyperFree's."""

    def __init__(self, width: int, patch_px: int) -> None:
        super().__init__()
        self.patch_px = patch_px
        key_kernels = torch.randn(width, len(KEY_SLOTS_NM), patch_px, patch_px)
        cube_kernels = torch.randn(width, len(CUBE_SLOTS_NM), patch_px, patch_px)
        self.point_spectral_weight_bank_w = nn.Parameter(key_kernels * SPREAD)
        self.point_spectral_weight_bank_b = nn.Parameter(torch.zeros(width))
        self.block_spectral_weight_bank_w = nn.Parameter(cube_kernels * SPREAD)
        self.block_spectral_weight_bank_b = nn.Parameter(torch.zeros(width))

    def forward(self, cube: Tensor, wavelengths_nm: Sequence[float], rng: random.Random | None = None) -> Tensor:
        """(B, N, D) of (B, C, H, W), row-major; in training slots are drawn from rng. BandError if none is a band's."""
        require_slots(wavelengths_nm)
        chosen = choose_channels(wavelengths_nm, rng)
        parts = []  # (B, D, h, w) each; few bands lie in one bank alone
        if chosen.key_channels:
            kernels = self.point_spectral_weight_bank_w[:, list(chosen.key_slots)]
            of_keys = cube[:, list(chosen.key_channels)]
            bias = self.point_spectral_weight_bank_b
            parts.append(F.conv2d(of_keys, kernels, bias, stride=self.patch_px))
        if chosen.cube_channels:
            kernels = self.block_spectral_weight_bank_w[:, list(chosen.cube_slots)]
            of_cube = cube[:, list(chosen.cube_channels)]
            bias = self.block_spectral_weight_bank_b
            parts.append(F.conv2d(of_cube, kernels, bias, stride=self.patch_px))
        tokens = sum(parts[1:], parts[0])
        return tokens.flatten(2).transpose(1, 2)


def require_slots(wavelengths_nm: Sequence[float]) -> None:
    """BandError if no band (C,), nm, has a slot in the dictionary."""
    chosen = choose_channels(wavelengths_nm)
    if not chosen.key_channels and not chosen.cube_channels:
        first, last = min(wavelengths_nm), max(wavelengths_nm)
        raise BandError(f"no band lies in the slots of the dictionary, 390-2510 nm (bands: {first:g}-{last:g} nm)")
