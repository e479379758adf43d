"""What the attributes of an array in HDF5 or NetCDF say about its values, by the names that are in use.

scale_factor, add_offset, _FillValue and missing_value are those of the CF conventions; Scale_Factor and Data_Ignore_Value
those of NEON's reflectance files, where the scale factor divides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

IGNORED = (
    "_fillvalue",
    "missing_value",
    "data_ignore_value",
    "no_data_value",
    "nodata_value",
    "nodata",
    "ignore_value",
)
DIVISORS = ("Scale_Factor", "Scale Factor", "reflectance_scale_factor", "reflectance scale factor")
UNITS = ("units", "unit")
MAX_VALUES = 10_000  # an attribute that is longer is no property of bands


@dataclass(frozen=True)
class Facts:
    """What attributes say.

    ignore_values : stored values that stand for no data
    gain, offset : physical value = stored value * gain + offset, one number or one per band; None: not said
    is_reflectance : whether a divisor was given that makes reflectance
    unit         : of the values, as written, or None
    vectors      : numeric attributes of several values and their units, by name
    """

    ignore_values: tuple[float, ...] = ()
    gain: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    is_reflectance: bool = False
    unit: str | None = None
    vectors: Mapping[str, tuple[tuple[float, ...], str | None]] = field(default_factory=dict)


NO_FACTS = Facts()


def facts_of(attributes: Mapping[str, Any]) -> Facts:
    """The facts in an array's attributes; what makes no sense is left out."""
    numbers = {name: values for name, value in attributes.items() if (values := _numbers(value)) is not None}
    missing = [_exact(value) for name, value in attributes.items() if name.lower() in IGNORED and name in numbers]
    gain, is_reflectance = numbers.get("scale_factor"), False
    divisor = next((numbers[name] for name in DIVISORS if name in numbers), None)
    if gain is None and divisor is not None and min(divisor) > 0:
        # NEON's 10000 divides; whoever writes 0.0001 under this name wants it multiplied
        gain, is_reflectance = tuple(1 / v if v > 1 else v for v in divisor), True
    texts = {name.lower(): _text(value) for name, value in attributes.items()}
    unit = next((texts[name] for name in UNITS if texts.get(name)), None)
    vectors = {name: (values, _unit_of(name, texts)) for name, values in numbers.items() if len(values) > 1}
    return Facts(tuple(missing), gain, numbers.get("add_offset"), is_reflectance, unit, vectors)


def _unit_of(name: str, texts: Mapping[str, str | None]) -> str | None:
    """The unit that attributes give for one of them."""
    keys = (f"{name}_units", f"{name}_unit", "wavelength_units", "wavelength units")
    return next((texts[key.lower()] for key in keys if texts.get(key.lower())), None)


def _numbers(value: Any) -> tuple[float, ...] | None:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    if array.dtype.kind not in "uifb" or not 0 < array.size <= MAX_VALUES or array.ndim > 1 + (1 in array.shape):
        return None
    return tuple(float(v) for v in array.ravel())


def _exact(value: Any) -> float:
    """The first number of an attribute; whole ones as int, since a 64-bit one fits no float."""
    first = np.asarray(value).ravel()[0]
    return int(first) if np.issubdtype(first.dtype, np.integer) else float(first)


def _text(value: Any) -> str | None:
    array = np.asarray(value)
    if array.size != 1:
        return None
    item = array.ravel()[0]
    if isinstance(item, bytes):
        return item.decode("utf-8", "replace")
    return item if isinstance(item, str) else None
