"""Choice of bands: nearest to a wavelength, false-colour frames of the spectral sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hvlabel.errors import BandError


@dataclass(frozen=True)
class Frame:
    """One false-colour frame. bands: file indices of (red, green, blue), longest wavelength first."""

    index: int
    bands: tuple[int, int, int]

    def of_bands(self, bands: np.ndarray) -> Frame:
        """The frame with its bands taken for positions in a list of file indices."""
        red, green, blue = (int(bands[k]) for k in self.bands)
        return Frame(self.index, (red, green, blue))


def evenly_spread(n_items: int, n_chosen: int) -> list[int]:
    """Up to n_chosen distinct positions in 0..n_items-1, evenly spread, the first and the last among them."""
    positions = np.linspace(0, n_items - 1, min(n_chosen, n_items)).round()
    return [int(k) for k in np.unique(positions)]


def nearest_band(wavelengths_nm: np.ndarray, target_nm: float, tol_nm: float) -> int:
    """Index of the band whose centre is closest to `target_nm`.

    wavelengths_nm : (C,) float, band centres in any order
    BandError if none lies within tol_nm.
    """
    k = int(np.abs(wavelengths_nm - target_nm).argmin())
    gap_nm = abs(float(wavelengths_nm[k]) - target_nm)
    if gap_nm > tol_nm:
        raise BandError(
            f"no band within {tol_nm:g} nm of {target_nm:g} nm: the nearest is {wavelengths_nm[k]:g} nm "
            f"(cube covers {wavelengths_nm.min():g}-{wavelengths_nm.max():g} nm); "
            "choose another rgb_nm or raise band_tol_nm"
        )
    return k


def false_colour_frames(wavelengths_nm: np.ndarray, max_frames: int) -> list[Frame]:
    """Frames k = 0..S-1 of bands (k, k+S, k+2S) with S = floor(C/3), after sorting by wavelength; longest is red.

    wavelengths_nm : (C,) float, band centres in file order
    max_frames     : if S is larger, this many frames spread evenly from the first to the last
    Fewer than three bands make one frame that repeats the last band. Rule of the HyperVision paper's sequence branch.
    """
    order = np.argsort(wavelengths_nm, kind="stable")
    n_bands = len(order)
    if n_bands < 3:  # no three different colours
        blue, red = int(order[0]), int(order[-1])
        return [Frame(0, (red, red, blue))]
    stride = n_bands // 3  # a frame's bands lie a third of the cube apart
    frames = []
    for k in evenly_spread(stride, max_frames):
        blue, green, red = (int(order[k + step * stride]) for step in range(3))
        frames.append(Frame(k, (red, green, blue)))
    return frames
