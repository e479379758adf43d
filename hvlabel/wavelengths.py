"""Band centres: in what unit numbers are given, and whether they can be believed.

One rule for every container and the configuration.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

SENSIBLE_NM = (200.0, 30_000.0)  # ultraviolet to thermal infrared
SPEED_OF_LIGHT_NM_GHZ = 299_792_458.0
NM_PER_UNIT = {
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "um": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "micron": 1e3,
    "angstrom": 0.1,
    "ångström": 0.1,
    "å": 0.1,
    "mm": 1e6,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
}
# units that fall as wavelength rises: wavelength in nm = constant / value
NM_TIMES_UNIT = {
    "cm-1": 1e7,
    "cm^-1": 1e7,
    "1/cm": 1e7,
    "wavenumber": 1e7,
    "ghz": SPEED_OF_LIGHT_NM_GHZ,
    "mhz": SPEED_OF_LIGHT_NM_GHZ * 1e3,
    "thz": SPEED_OF_LIGHT_NM_GHZ / 1e3,
}
NO_UNIT = ("", "unknown", "none", "-")
MICRO_SIGNS = ("µ", "μ", "\ufffd")  # the sign, the Greek letter, and what is left of either in a wrong encoding
# what a wrong unit is looked for among, likeliest first
SLIPS = (("nanometres", 1.0), ("micrometres", 1e3), ("metres", 1e9), ("ångström", 0.1))


@dataclass(frozen=True)
class Centres:
    """Band centres as a file gives them.

    values : one per stored band, in `unit`; falling, rising or unsorted
    unit   : as written in the file; None or "": not said
    source : where they stand, for messages, e.g. "header field wavelength"
    """

    values: tuple[float, ...]
    unit: str | None
    source: str

    def in_nm(self, bands: Sequence[int] | np.ndarray | None = None) -> tuple[float, ...]:
        """Of some bands, by default all, in nm; ValueError with what is wrong with them.

        Numbers of bands are known by the whole list; everything else is asked of the bands that are used.
        """
        try:
            # of the whole list: 5, 6, 7 alone could be micrometres
            _require_no_band_numbers(self.values)
            chosen = self.values if bands is None else [self.values[int(k)] for k in bands]
            return centres_nm(chosen, self.unit)
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from error


def centres_nm(values: Sequence[float], unit: str | None = None) -> tuple[float, ...]:
    """Believable band centres in nm; ValueError with what is wrong, and the unit that was probably meant.

    unit : any spelling of nm, µm, Å, mm, m, wavenumbers (cm-1), GHz, MHz, THz; None: nm if that makes them sensible,
           else µm
    Believable are finite numbers within SENSIBLE_NM that are neither all equal nor the numbers of the bands.
    """
    if not values:
        raise ValueError("no band centres")
    _require_no_band_numbers(values)
    if any(not math.isfinite(v) or v <= 0 for v in values):
        raise ValueError(f"band centres are {_some(values)}, expected positive numbers")
    if len(values) > 1 and len(set(values)) == 1:
        raise ValueError(f"all {len(values)} band centres are {values[0]:g}, expected different ones")
    # without a unit there are several, of which the first that makes sense counts
    for to_nm in _conversions(unit):
        converted = tuple(to_nm(v) for v in values)
        if _are_sensible(converted):
            return converted
    raise ValueError(_not_sensible(values, unit))


def is_no_length(unit: str) -> bool:
    """Whether a unit is none of wavelengths or wavenumbers, so that numbers in it are no band centres."""
    name = _unit_name(unit)
    return name not in NO_UNIT and name not in NM_PER_UNIT and name not in NM_TIMES_UNIT


def widths_nm(
    widths: Sequence[float], unit: str | None, centres: Sequence[float], unit_of_centres: str | None
) -> tuple[float, ...] | None:
    """Band widths (fwhm) in nm; None for units in which widths are no lengths.

    unit    : of the widths; None: that of the centres
    centres : the same bands' centres as the file gives them
    """
    name = _unit_name(unit or unit_of_centres or "")
    if name in NM_TIMES_UNIT:
        return None
    factor = NM_PER_UNIT.get(name)
    if factor is None:
        # no unit: whatever made the centres sensible
        factor = centres_nm(centres, unit_of_centres)[0] / centres[0]
    return tuple(w * factor for w in widths)


def _not_sensible(values: Sequence[float], unit: str | None) -> str:
    """What is wrong with centres out of range, and the unit that would bring them back."""
    low_nm, high_nm = SENSIBLE_NM
    given = "without a unit"
    if unit and unit.strip().lower() not in NO_UNIT:
        given = f"in {unit.strip()!r}"
    likely = next((name for name, factor in SLIPS if _are_sensible([v * factor for v in values])), None)
    cause = f"; they look like {likely}" if likely else ""
    return (
        f"band centres {_some(values)} {given} lie outside {low_nm:g}-{high_nm:g} nm{cause}; "
        "correct the numbers or their unit"
    )


def _unit_name(unit: str) -> str:
    """A unit in lower case, singular, with a plain u for every kind of micro sign, a damaged one included."""
    name = re.sub(r"\s*\([^)]*\)$", "", unit.strip()) or unit  # Nanometers (nm)
    name = name.strip("[](){} ").lower()
    for sign in MICRO_SIGNS:
        name = name.replace(sign, "u")
    return name.removesuffix("s")  # nanometers


def _conversions(unit: str | None) -> list[Callable[[float], float]]:
    """Functions to nm that a unit allows for; ValueError for a unit that is none."""
    name = _unit_name(unit or "")
    if name in NO_UNIT:
        return [lambda v: v, lambda v: v * 1e3]
    if name in NM_PER_UNIT:
        factor = NM_PER_UNIT[name]
        return [lambda v: v * factor]
    if name in NM_TIMES_UNIT:
        constant = NM_TIMES_UNIT[name]
        return [lambda v: constant / v]
    raise ValueError(f"unknown unit {str(unit).strip()!r}; expected nm, µm, Å, m, cm-1 or GHz, or the centres in nm")


def _are_sensible(values_nm: Sequence[float]) -> bool:
    low_nm, high_nm = SENSIBLE_NM
    return min(values_nm) >= low_nm and max(values_nm) <= high_nm


def _require_no_band_numbers(values: Sequence[float]) -> None:
    """ValueError if they count from 0 or 1, up or down."""
    if len(values) < 2:
        return  # one centre of 1 may be a micrometre
    rising = sorted(values)
    counts = rising[0] in (0, 1) and all(after - before == 1 for before, after in pairwise(rising))
    if counts and list(values) in (rising, rising[::-1]):
        raise ValueError(f"{_some(values)} are the numbers of the bands, expected their centres")


def _some(values: Sequence[float]) -> str:
    shown = [f"{v:g}" for v in values]
    return ", ".join(shown) if len(shown) <= 4 else f"{shown[0]}, {shown[1]}, ... {shown[-1]}"
