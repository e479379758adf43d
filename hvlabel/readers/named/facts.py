"""What the attributes of an array in HDF5 or NetCDF say about its values, by the names that are in use.

scale_factor, add_offset, _FillValue and missing_value are those of the CF conventions; Scale_Factor and
Data_Ignore_Value those of NEON's reflectance files, where the scale factor divides.
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
UNITS_OF_CENTRES = ("wavelength_units", "wavelength units")
MAX_VALUES = 10_000  # an attribute that is longer is no property of bands


@dataclass(frozen=True)
class Facts:
    """What attributes say.

    ignore_values  : stored values that stand for no data
    gain, offset   : physical value = stored value * gain + offset, one number or one per band; None: not said
    is_reflectance : whether a divisor was given that makes reflectance
    unit           : of the values, as written, or None
    vectors        : numeric attributes of several values and their units, by name
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
    numbers: dict[str, tuple[float, ...]] = {}
    for name, value in attributes.items():
        values = _numbers(value)
        if values is not None:
            numbers[name] = values
    texts = {name.lower(): _text(value) for name, value in attributes.items()}
    ignored = [name for name in numbers if name.lower() in IGNORED]  # writers differ in capitals
    gain = numbers.get("scale_factor")
    inverse = _inverse_divisor(numbers) if gain is None else None  # CF's own word goes first
    vectors = {name: (values, _unit_of(name, texts)) for name, values in numbers.items() if len(values) > 1}
    ignore_values = tuple(_exact(attributes[name]) for name in ignored)
    return Facts(
        ignore_values=ignore_values,
        gain=gain if inverse is None else inverse,
        offset=numbers.get("add_offset"),
        is_reflectance=inverse is not None,
        unit=_first_text(texts, UNITS),
        vectors=vectors,
    )


def _inverse_divisor(numbers: Mapping[str, tuple[float, ...]]) -> tuple[float, ...] | None:
    """The gain that the first attribute called like a divisor comes to; None without one, or if it is not positive."""
    divisors = (numbers[name] for name in DIVISORS if name in numbers)
    divisor = next(divisors, None)
    if divisor is None or not min(divisor) > 0:  # nor is NaN a divisor
        return None
    # NEON's 10000 divides; whoever writes 0.0001 under this name wants it multiplied
    return tuple(1 / v if v > 1 else v for v in divisor)


def _unit_of(name: str, texts: Mapping[str, str | None]) -> str | None:
    """The unit that attributes give for one of them."""
    return _first_text(texts, (f"{name}_units", f"{name}_unit", *UNITS_OF_CENTRES))


def _first_text(texts: Mapping[str, str | None], names: tuple[str, ...]) -> str | None:
    """The first of some attributes that is a text and not empty. texts: by name in small letters."""
    for name in names:
        text = texts.get(name.lower())
        if text:
            return text
    return None


def _numbers(value: Any) -> tuple[float, ...] | None:
    """The numbers of an attribute that is one number or one vector; None for others."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    if array.dtype.kind not in "uifb" or not 0 < array.size <= MAX_VALUES:
        return None
    is_matlab_vector = array.ndim == 2 and 1 in array.shape  # those have two axes
    is_vector = array.ndim <= 1 or is_matlab_vector
    return tuple(float(v) for v in array.ravel()) if is_vector else None


def _exact(value: Any) -> float:
    """The first number of an attribute; whole ones as int, since a 64-bit one fits no float."""
    first = np.asarray(value).ravel()[0]
    return int(first) if np.issubdtype(first.dtype, np.integer) else float(first)


def _text(value: Any) -> str | None:
    """The text of an attribute that is one; None for others."""
    array = np.asarray(value)
    if array.size != 1:
        return None
    item = array.ravel()[0]
    if isinstance(item, bytes):  # strings of fixed length
        return item.decode("utf-8", "replace")
    return item if isinstance(item, str) else None
