"""What GDAL writes into a TIFF file beside the image: XML items of the whole image or of single bands."""

from __future__ import annotations

import re
import xml.etree.ElementTree
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hvlabel.wavelengths import Centres, is_no_length

MAX_CHARS = 4 << 20
# item -> unit of its numbers; None: it stands elsewhere. Of several the first that is given for all bands counts
CENTRE_ITEMS = {"wavelength": None, "wavelength_nm": "nm", "central_wavelength_um": "um", "central_wavelength_nm": "nm"}
WIDTH_ITEMS = {"fwhm": "nm", "fwhm_nm": "nm", "fwhm_um": "um"}
UNIT_ITEM = "wavelength_units"
ROLES = ("scale", "offset")  # items that are known by what they do, whatever they are called
BAND_ITEM = re.compile(r"band_(\d+)")
NUMBER_WITH_UNIT = re.compile(r"\(?([\d.]+(?:e[+-]?\d+)?)\s*([^\d\s()]*)", re.IGNORECASE)


@dataclass
class GdalItems:
    """Texts of items.

    by_band : by the item's name in small letters, or its role, then by the band counted from 0
    whole   : of the whole image, by name in small letters
    """

    by_band: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    whole: dict[str, str] = field(default_factory=dict)

    def of_bands(self, name: str, n_bands: int, absent: float | None = None) -> tuple[float, ...] | None:
        """One number per band, from items of single bands or from a list for all; None where there are none.

        absent : what a band without an item has; None: every band has to have one
        """
        texts = self.by_band.get(name, {})
        if not texts and name in self.whole:  # GDAL keeps ENVI's lists as they are, braces included
            words = re.split(r"[,\s{}]+", self.whole[name])
            texts = dict(enumerate(word for word in words if word))
        if not texts:
            return None
        numbers = []
        for k in range(n_bands):
            number = number_of(texts[k]) if k in texts else absent
            if number is None:
                return None
            numbers.append(number)
        return tuple(numbers)

    def centres(self) -> Centres | None:
        """Band centres: of one item per band, or of items Band_1, Band_2, ..., as GDAL takes them from ENVI headers."""
        for name, unit in CENTRE_ITEMS.items():
            measured = _with_unit(self.by_band.get(name, {}))
            if measured is not None:
                values, inner_unit = measured
                unit_of_first = self.by_band.get(UNIT_ITEM, {}).get(0)  # all bands have the same
                unit = unit or inner_unit or unit_of_first or self.whole.get(UNIT_ITEM)
                return Centres(values, unit, f"GDAL metadata item {name}")
        return self._centres_from_names()

    def _centres_from_names(self) -> Centres | None:
        named: dict[int, str] = {}
        for name, text in self.whole.items():
            match = BAND_ITEM.fullmatch(name)
            if match is not None:
                named[int(match[1]) - 1] = text
        measured = _with_unit(named)
        if measured is None:
            return None
        values, inner_unit = measured
        unit = inner_unit or self.whole.get(UNIT_ITEM)
        if unit and is_no_length(unit):
            return None  # names of bands that begin with a number
        return Centres(values, unit, f"GDAL metadata items Band_1 to Band_{len(values)}")

    def widths(self, n_bands: int) -> tuple[tuple[float, ...] | None, str | None]:
        """Band widths and their unit; None for both where they are not given for every band."""
        for name, unit in WIDTH_ITEMS.items():
            widths = self.of_bands(name, n_bands)
            if widths:
                return widths, unit
        return None, None


def parse_items(text: Any) -> GdalItems:
    """Items of GDAL's XML; nothing of an XML that cannot be read, since it is no part of the image."""
    items = GdalItems()
    # a small text may expand to gigabytes by entities that it declares
    is_safe = isinstance(text, str) and len(text) <= MAX_CHARS and "<!" not in text
    if not is_safe:
        return items
    try:
        root = xml.etree.ElementTree.fromstring(text.strip("\0 \n"))
    except xml.etree.ElementTree.ParseError:
        return items
    for item in root.iter("Item"):
        content = (item.text or "").strip()
        name = str(item.get("name", "")).lower()
        role = item.get("role")
        sample = item.get("sample")
        if sample is not None and sample.isdecimal():
            key = role if role in ROLES else name
            items.by_band[key][int(sample)] = content
        else:
            items.whole[name] = content
    return items


def number_of(text: Any) -> float | None:
    """The number that a tag or an item holds; None if it is none."""
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def _with_unit(texts: Mapping[int, str]) -> tuple[tuple[float, ...], str | None] | None:
    """Numbers of the bands 0, 1, ... and the unit behind one of them; None if one is missing or no number."""
    values: list[float] = []
    units: list[str] = []
    # a gap would shift all that follow: then the numbers are not those of the bands
    for k in range(len(texts)):
        match = NUMBER_WITH_UNIT.match(texts.get(k, ""))
        value = None if match is None else number_of(match[1])
        if match is None or value is None:
            return None
        values.append(value)
        units.append(match[2])
    if not values:
        return None
    named = (unit for unit in units if unit)
    return tuple(values), next(named, None)  # all bands have the same
