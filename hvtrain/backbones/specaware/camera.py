"""What SpecAware is told of a camera besides the pixels, with defaults where a ground camera says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hvlabel.errors import BandError, ConfigError
from hvtrain.backbones.specaware.sentences import SENTENCES

RANGE_NM = (350.0, 2550.0)  # of the wavelength code; 0 is a padded band
NOMINAL_GSD_M = 10.0  # at a ground camera's own, millimetres, the position code is nearly constant
LONE_FWHM_NM = 10.0  # of the only band of a camera, which has no spacing

Numbers = Tensor | Sequence[float] | Sequence[Sequence[float]]


@dataclass(frozen=True)
class Camera:
    """A camera, or several of the same sensor with equally many bands.

    wavelengths_nm : (C,) or (B, C) band centres, 350-2550 nm or 0 for a padded band, in any order
    fwhm_nm        : as wide; none: the local spacing of the bands
    gsd_m          : one number, (B,) or (B, 1): ground sampling distance, m per px
    sensor, level  : names of SENTENCES; a batch holds one sensor
    """

    wavelengths_nm: Numbers
    fwhm_nm: Numbers | None = None
    gsd_m: float | Numbers = NOMINAL_GSD_M
    sensor: str = "others"
    level: str = "others"

    def bands(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Centres and widths of the bands, each (B, C) float32, nm; BandError for a centre out of range."""
        wavelengths_nm = _per_sample(self.wavelengths_nm, batch, device)
        first_nm, last_nm = RANGE_NM
        size_nm = wavelengths_nm.abs()
        inside = (size_nm >= first_nm) & (size_nm <= last_nm)
        wrong = ~inside & (size_nm != 0)
        if wrong.any():
            raise BandError(
                f"a band at {float(wavelengths_nm[wrong][0]):g} nm is outside {first_nm:g}-{last_nm:g} nm, "
                "which the wavelength code covers; leave such bands out"
            )
        if self.fwhm_nm is None:
            return wavelengths_nm, spacing_nm(wavelengths_nm)
        return wavelengths_nm, _per_sample(self.fwhm_nm, batch, device)

    def distances_m(self, batch: int, device: torch.device) -> Tensor:
        """Ground sampling distance of each sample, (B,) float32."""
        gsd_m = torch.as_tensor(self.gsd_m, dtype=torch.float32, device=device).reshape(-1)
        return gsd_m.expand(batch)

    def names(self) -> tuple[str, str]:
        """Sensor and level; ConfigError for a name without a sentence."""
        for name in (self.sensor, self.level):
            if name not in SENTENCES:
                raise ConfigError(
                    f"no sentence is known for {name!r}; sensor and level are among {', '.join(SENTENCES)}"
                )
        return self.sensor, self.level


def spacing_nm(wavelengths_nm: Tensor) -> Tensor:
    """(B, C) mean distance of each band to its neighbours in wavelength, nm, of (B, C) in any order."""
    if wavelengths_nm.shape[1] == 1:
        return torch.full_like(wavelengths_nm, LONE_FWHM_NM)
    ascending, order = wavelengths_nm.sort(dim=1)
    steps = ascending.diff(dim=1)  # (B, C - 1)
    # the first and the last band have one neighbour, whose distance counts twice
    before = torch.cat([steps[:, :1], steps], dim=1)
    after = torch.cat([steps, steps[:, -1:]], dim=1)
    spacing = (before + after) / 2
    return torch.empty_like(spacing).scatter_(1, order, spacing)


def _per_sample(values: Numbers, batch: int, device: torch.device) -> Tensor:
    """(B, C) float32 of (C,), (1, C) or (B, C)."""
    table = torch.as_tensor(values, dtype=torch.float32, device=device)
    table = table[None] if table.ndim == 1 else table
    return table.expand(batch, -1)
