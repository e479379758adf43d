"""Spectra of any camera, evened out for a network: free of brightness, alike in noise, alike in contrast.

Everything happens in band space. Principal components have an arbitrary sign and, where two are about as strong, an
arbitrary order; here axes are scaled and turned back to bands, so that neither can matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MAX_GROUPS = 32  # of bands: the eigenvectors of more are slow, and the mean of neighbours has less noise
DARK_SHARE = 0.01  # of the median length of a spectrum, added to each: the direction of a black pixel is noise
LIGHT_RANGE = 3.0  # of the logarithm of the brightness around its median
NOISE_RIDGE = 1e-3  # share of the mean noise variance, so that a dead band cannot blow up
EVENNESS = 0.25  # power of its variance ratio that an axis is divided by, as in branches/material
LEAST_RATIO, LEAST_LIGHT, LEAST_SQUARE = 1e-6, 1e-6, 1e-12  # against logarithms and quotients of nothing


def grouped(values: np.ndarray, wavelengths_nm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbouring bands, (G, H, W) float32, and their wavelengths (G,), nm, rising; G <= MAX_GROUPS.

    values         : (C, H, W) any unit, finite
    wavelengths_nm : (C,) band centres in channel order
    """
    centres_nm = np.asarray(wavelengths_nm, np.float64)
    rising = np.argsort(centres_nm, kind="stable")
    n_groups = min(MAX_GROUPS, len(rising))
    members = np.array_split(rising, n_groups)
    means = [values[group].mean(axis=0, dtype=np.float32) for group in members]  # (H, W) each
    group_nm = [centres_nm[group].mean() for group in members]
    return np.stack(means), np.array(group_nm)


def conditioned(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Evened-out spectra (B, G, H, W), of mean square 1 per band, and brightness (B, 1, H, W); both 0 where invalid.

    values : (B, G, H, W) float32, any unit; bands of zeros stay zeros
    valid  : (B, H, W) bool, pixels with values
    Directions of spectra are centred and divided by the noise of each band. The principal axis of variance ratio r is
    scaled by r ** -EVENNESS, times the share of r that is no noise. Brightness is the logarithm of a spectrum's length.
    """
    inside = valid[:, None].to(values.dtype)  # (B, 1, H, W)
    n_inside = _sum(inside).clamp(min=1)
    tiny = torch.finfo(values.dtype).tiny
    length = values.square().sum(dim=1, keepdim=True).sqrt()  # (B, 1, H, W)
    middle = _median(length, inside)

    lifted = length + DARK_SHARE * middle
    direction = values / lifted.clamp(min=tiny)
    mean = _sum(direction * inside) / n_inside
    direction = (direction - mean) * inside
    noise = _noise_variance(direction, inside)  # (B, G)
    noise = noise + NOISE_RIDGE * noise.mean(dim=1, keepdim=True) + tiny
    whitened = direction * noise.rsqrt()[:, :, None, None]
    pixels = whitened.flatten(2)  # (B, G, H*W)

    covariance = pixels @ pixels.mT / n_inside[:, 0]
    even = _evening(covariance) @ pixels
    n_present = present(values).sum(dim=1).clamp(min=1)  # (B,) bands
    n_values = n_inside.flatten() * n_present
    square = even.square().sum(dim=(1, 2)) / n_values  # (B,)
    to_one = square.clamp(min=LEAST_SQUARE).rsqrt()
    even = even * to_one[:, None, None]

    brightness = length / middle.clamp(min=tiny)
    light = brightness.clamp(min=LEAST_LIGHT).log()
    return even.view_as(values), light.clamp(-LIGHT_RANGE, LIGHT_RANGE) * inside


def present(values: Tensor) -> Tensor:
    """(B, G) bool, which bands of (B, G, H, W) have values other than 0: a batch holds cameras of fewer bands too."""
    return values.flatten(2).abs().amax(dim=2) > 0


def _evening(covariance: Tensor) -> Tensor:
    """(B, G, G) symmetric: to principal axes, each scaled, and back. A noise of variance 1 has ratio 1 and goes."""
    ratio, axes = torch.linalg.eigh(covariance)
    ratio = ratio.clamp(min=LEAST_RATIO)
    no_noise = (1 - 1 / ratio).clamp(min=0)  # (B, G) share
    gain = no_noise * ratio**-EVENNESS
    return (axes * gain[:, None]) @ axes.mT


def _sum(image: Tensor) -> Tensor:
    """(B, C, 1, 1) of (B, C, H, W)."""
    return image.sum(dim=(2, 3), keepdim=True)


def _median(image: Tensor, inside: Tensor) -> Tensor:
    """(B, 1, 1, 1) median of (B, 1, H, W) over the pixels inside; 0 where there are none."""
    known = image.masked_fill(inside == 0, float("nan")).flatten(1)
    median = torch.nan_to_num(known.nanmedian(dim=1).values)  # (B,)
    return median[:, None, None, None]


def _noise_variance(image: Tensor, inside: Tensor) -> Tensor:
    """(B, G) half the mean square of neighbour differences, without the stronger half of them: those are edges."""
    across = image[..., 1:] - image[..., :-1]  # (B, G, H, W - 1)
    both = (inside[..., 1:] * inside[..., :-1])[:, 0]  # (B, H, W - 1)
    strength = across.abs().sum(dim=1)
    strength = strength.masked_fill(both == 0, float("nan"))  # so that the median leaves them out
    median = strength.flatten(1).nanmedian(dim=1).values  # (B,)
    quiet = strength <= median[:, None, None]  # nowhere true beside nan
    n_quiet = quiet.sum(dim=(1, 2)).clamp(min=1)
    of_quiet = across.square() * quiet[:, None]
    squares = of_quiet.sum(dim=(2, 3))  # (B, G)
    return squares / n_quiet[:, None] / 2  # a difference has the noise of two pixels
