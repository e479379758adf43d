"""A masked autoencoder around a backbone that is trained: its encoder is the backbone, its decoder is thrown away.

The published autoencoders of a family hold their encoder under the names that the encoder has alone. So an autoencoder
of the same sizes is built, and what has such a name is replaced by the backbone's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hvtrain.backbones.parts.masking import Reconstruction

SHOWN_TOKENS = 2  # of each sample, in pictures


@dataclass(frozen=True)
class Spectra:
    """N spectra of some places, to look at.

    target, prediction : (N, L)
    removed            : (N, L) bool, what the encoder did not see
    """

    target: Tensor
    prediction: Tensor
    removed: Tensor


@dataclass(frozen=True)
class Autoencoder:
    """What an objective asks.

    reconstruct   : (cube (B, C, S, S) in the backbone's input range, band centres (C,) nm, gsd_m (B,), seed of the draw
                    of what is removed) -> Reconstruction
    spectra       : some spectra of the same arguments
    heads         : the decoder's networks and parameters, by their names
    require_bands : raises BandError for band centres (C,), nm, of which nothing would be left
    """

    reconstruct: Callable[[Tensor, Sequence[float], Sequence[float], int], Reconstruction]
    spectra: Callable[[Tensor, Sequence[float], Sequence[float], int], Spectra]
    heads: Mapping[str, nn.Module | nn.Parameter]
    require_bands: Callable[[Sequence[float]], None] = lambda wavelengths_nm: None


Heads = dict[str, nn.Module | nn.Parameter]


def decoder_around(autoencoder: nn.Module, encoder: nn.Module, own: Sequence[str]) -> Heads:
    """Give an autoencoder the encoder's parts of the names `own`; its remaining parts that learn, by their names."""
    for name in own:
        setattr(autoencoder, name, getattr(encoder, name))
    parts: Heads = dict(autoencoder.named_children())
    parts |= dict(autoencoder.named_parameters(recurse=False))
    for name in own:
        del parts[name]
    return parts


def patch_spectra(target: Tensor, reconstruction: Reconstruction, n_bands: int) -> Spectra:
    """Of each sample's first removed tokens the spectra of their middle pixels. target: (B, N, k * k * C)."""
    removed_first = reconstruction.removed.argsort(dim=1, descending=True, stable=True)
    first = removed_first[:, :SHOWN_TOKENS, None]
    chosen = first.expand(-1, -1, n_bands)  # (B, T, C)
    of_middle = []
    for pixels in (target, reconstruction.prediction):
        of_pixel = pixels.unflatten(-1, (-1, n_bands))  # (B, N, k * k, C)
        middle = of_pixel[:, :, of_pixel.shape[2] // 2]  # (B, N, C)
        of_chosen = middle.gather(1, chosen)
        of_middle.append(of_chosen.flatten(0, 1))
    spectra, predicted = of_middle  # (B * T, C) each
    removed = torch.ones_like(spectra, dtype=torch.bool)  # a token is removed with all its bands
    return Spectra(spectra, predicted, removed)


def draws(seed: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """(B, N) uniform numbers that are the same on any device."""
    generator = torch.Generator().manual_seed(seed)  # the CPU's: each kind of device draws others
    drawn = torch.rand(tuple(shape), generator=generator)
    return drawn.to(device)
