"""Spectral augmentation: another light, another sensor, fewer bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.config import DataSettings
from hvtrain.data.schedule import NETWORK, rng

GAIN_KNOTS = 6  # of the smooth gain along the spectrum
MIN_GAIN = 0.1  # a band may become dark, not negative


def augmented(
    x: Tensor,
    wavelengths_nm: Sequence[float],
    data: DataSettings,
    seed: int,
    step: int,
    fits: Callable[[Sequence[float]], bool],
) -> tuple[Tensor, tuple[float, ...]]:
    """Input and its band centres after spectral jitter and band dropout; one draw for the batch.

    x    : (B, C, S, S) float32
    fits : whether the backbone can read a list of band centres, nm; if it cannot, no band is left out
    """
    bands = tuple(wavelengths_nm)
    if not (data.spectral_jitter or data.band_dropout):
        return x, bands
    random = rng(seed, NETWORK, step, 1)  # (NETWORK, step) alone is the network's own
    if data.spectral_jitter:
        drawn = random.normal(0, data.spectral_jitter, (1, 1, GAIN_KNOTS))
        knots = torch.from_numpy(drawn).float()
        smooth = F.interpolate(knots, size=len(bands), mode="linear", align_corners=True)
        gain = 1 + smooth[0, 0]  # (C,) in the order of wavelengths
        rank = torch.tensor(bands).argsort().argsort()  # channels may be stored in any order of wavelength
        of_channel = gain[rank].clamp(min=MIN_GAIN).to(x.device)  # (C,)
        x = x * of_channel[None, :, None, None]
    order = random.permutation(len(bands))
    n_left_out = int(random.random() * data.band_dropout * len(bands))
    n_kept = len(bands) - n_left_out
    kept = sorted(order[:n_kept])  # in the order of the channels
    fewer = tuple(bands[k] for k in kept)
    if not fits(fewer):
        return x, bands
    return x[:, kept], fewer
