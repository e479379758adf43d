"""Reflectance spectra of twelve everyday materials and an illuminant, as smooth parametric curves."""

from __future__ import annotations

import numpy as np

GRID_NM = np.arange(390.0, 1011.0, 5.0)  # (L,) sampling of every spectrum
N_CHANGES, N_BUMPS = 12, 7  # random changes that are tried for a metamer; bumps that each is made of
DARKEST, BRIGHTEST = 0.01, 0.99  # reflectance of a metamer


def _step(centre_nm: float, width_nm: float) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-(GRID_NM - centre_nm) / width_nm))


def _bump(centre_nm: float, width_nm: float) -> np.ndarray:
    return np.exp(-0.5 * ((GRID_NM - centre_nm) / width_nm) ** 2)


def _slope(at_400: float, at_1000: float) -> np.ndarray:
    return at_400 + (at_1000 - at_400) * (GRID_NM - 400.0) / 600.0


# Shapes follow what such surfaces are known for: the red edge of leaves, iron absorption of soil and brick near 870 nm,
# dyes that turn bright in the near infrared, water that is dark there, flat greys.
MATERIALS: dict[str, np.ndarray] = {
    "leaf": 0.04 + 0.09 * _bump(552, 28) + 0.45 * _step(715, 11) - 0.03 * _bump(965, 22),
    "dry grass": 0.08 + 0.30 * _step(560, 70) + 0.12 * _step(800, 60),
    "soil": _slope(0.07, 0.34) - 0.05 * _bump(870, 45),
    "brick": 0.06 + 0.34 * _step(588, 17) - 0.05 * _bump(865, 50),
    "concrete": _slope(0.26, 0.36),
    "asphalt": _slope(0.07, 0.11),
    "water": 0.05 + 0.06 * _bump(510, 60),
    "white paint": 0.80 * _step(408, 7) - 0.04 * _bump(935, 30),
    "blue dye": 0.07 + 0.32 * _bump(455, 34) + 0.42 * _step(745, 19),
    "yellow paint": 0.06 + 0.62 * _step(512, 13),
    "green paint": 0.06 + 0.27 * _bump(527, 33) + 0.18 * _step(770, 32),
    "wood": 0.10 + 0.36 * _step(605, 75) - 0.04 * _bump(985, 25),
}


def illuminant() -> np.ndarray:
    """(L,) relative daylight: a 5,800 K black body over the grid with an oxygen and a water band, maximum 1."""
    metres = GRID_NM * 1e-9
    radiance = metres**-5 / (np.exp(0.014388 / (metres * 5800.0)) - 1.0)  # Planck's law; 0.014388 m K is hc/k
    radiance = radiance / radiance.max()
    return radiance * (1 - 0.25 * _bump(761, 4)) * (1 - 0.2 * _bump(940, 18))


def metamer(base: np.ndarray, rgb_response: np.ndarray, rng: np.random.Generator, strength: float = 0.16) -> np.ndarray:
    """(L,) reflectance that gives the same RGB as `base` but another spectrum.

    base         : (L,) reflectance in [0, 1]
    rgb_response : (3, L) linear map from reflectance to RGB
    strength     : largest absolute change aimed at; less where reflectance would leave [0.01, 0.99]
    A random smooth change is projected onto the null space of the RGB response. Of several the strongest is taken.
    """
    best, best_energy = base, -1.0
    for _ in range(N_CHANGES):
        centres_nm = rng.uniform(400, 1000, N_BUMPS)
        change = sum(rng.normal() * _bump(centre_nm, rng.uniform(18, 60)) for centre_nm in centres_nm)
        change = change - np.linalg.pinv(rgb_response) @ (rgb_response @ change)  # what RGB would show is taken out
        change = change / np.abs(change).max() * strength
        # how many times the change has room above where it brightens, and below where it darkens
        with np.errstate(divide="ignore"):
            above = (BRIGHTEST - base) / change
            below = (DARKEST - base) / np.minimum(change, -1e-9)
        room = np.where(change > 0, above, below)
        candidate = change * min(1.0, float(room.min()))
        energy = float((candidate**2).sum())
        if energy > best_energy:
            best, best_energy = base + candidate, energy
    return best
