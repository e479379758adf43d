"""Where an image lies on the ground: coordinate system and affine transform of GeoTIFF tags and of ENVI's `map info`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

# GeoTIFF 1.1: keys of the key directory
MODEL_TYPE, RASTER_TYPE, GEOGRAPHIC_CRS, PROJECTED_CRS = 1024, 1025, 2048, 3072
PIXEL_IS_POINT, USER_DEFINED, UNDEFINED = 2, 32767, 0
EPSG_WGS84, EPSG_UTM_NORTH, EPSG_UTM_SOUTH = 4326, 32600, 32700


@dataclass(frozen=True)
class Georeference:
    """Place of an image.

    transform : (a, b, c, d, e, f) with x = a * column + b * row + c and y = d * column + e * row + f, where (0, 0) is the
                outer corner of the first pixel
    crs       : "EPSG:code", or well-known text, or None if the file does not say
    source    : the file's own words, e.g. ENVI's `map info`
    """

    transform: tuple[float, float, float, float, float, float]
    crs: str | None
    source: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As kept in cubes and labels."""
        return {"crs": self.crs, "transform": list(self.transform), "source": self.source}

    def transposed(self) -> Georeference:
        """Of the image with rows and columns exchanged."""
        a, b, c, d, e, f = self.transform
        return replace(self, transform=(b, a, c, e, d, f))

    def upright(self, height_px: int, width_px: int, rot90: int, first_row: int = 0) -> Georeference:
        """Of the image after its first rows are cut and it is turned.

        height_px, width_px : of the image before it is turned
        rot90               : quarter turns counter-clockwise
        """
        matrix = np.array([*self.transform, 0, 0, 1]).reshape(3, 3)
        matrix = matrix @ np.array([[1, 0, 0], [0, 1, first_row], [0, 0, 1]])
        for _ in range(rot90):
            # pixel (column, row) of the turned image was at (width - row, column)
            matrix = matrix @ np.array([[0, -1, width_px], [1, 0, 0], [0, 0, 1]])
            height_px, width_px = width_px, height_px
        a, b, c, d, e, f = (float(v) for v in matrix[:2].ravel())
        return replace(self, transform=(a, b, c, d, e, f))


def from_map_info(map_info: str | None, coordinate_system: str | None) -> Georeference | None:
    """Of an ENVI header's `map info` and `coordinate system string`; None where they name no sound place.

    Map info: projection, column and row of a reference point (counted from 1, at the pixel's outer corner), its x and y,
    pixel width and height, and for UTM zone and hemisphere, then the datum; `rotation=` degrees counter-clockwise.
    """
    if not map_info:
        return None
    words = [w.strip() for w in map_info.split(",")]
    if words[0].lower() in ("arbitrary", "pixel"):
        return None  # pixels counted, no place
    try:
        column, row, x, y, width, height = (float(w) for w in words[1:7])
    except ValueError:
        return None
    if not all(map(math.isfinite, (column, row, x, y, width, height))) or 0 in (width, height):
        return None
    named = dict(w.lower().split("=", 1) for w in words if "=" in w)
    angle = math.radians(_number(named.get("rotation")))
    a, b = width * math.cos(angle), height * math.sin(angle)
    d, e = width * math.sin(angle), -height * math.cos(angle)
    corner = (x - a * (column - 1) - b * (row - 1), y - d * (column - 1) - e * (row - 1))
    crs = coordinate_system.strip() if coordinate_system else None
    return Georeference((a, b, corner[0], d, e, corner[1]), _envi_epsg(words) or crs, map_info)


def from_geotiff(
    scale: Sequence[float] | None,
    tiepoint: Sequence[float] | None,
    matrix: Sequence[float] | None,
    keys: Sequence[int] | None,
) -> Georeference | None:
    """Of the tags ModelPixelScale, ModelTiepoint, ModelTransformation and GeoKeyDirectory; None without a transform."""
    codes = _geo_keys(keys or ())
    if matrix is not None and len(matrix) >= 8:
        a, b, _, c, d, e, _, f = (float(v) for v in matrix[:8])
    elif scale is not None and tiepoint is not None and len(scale) >= 2 and len(tiepoint) >= 6:
        column, row, _, x, y, _ = (float(v) for v in tiepoint[:6])
        a, b, d, e = float(scale[0]), 0.0, 0.0, -float(scale[1])
        c, f = x - a * column, y - e * row
    else:
        return None
    if codes.get(RASTER_TYPE) == PIXEL_IS_POINT:  # the transform is of pixel centres then
        c, f = c - (a + b) / 2, f - (d + e) / 2
    code = codes.get(PROJECTED_CRS, codes.get(GEOGRAPHIC_CRS))
    known = code is not None and code not in (USER_DEFINED, UNDEFINED)
    return Georeference((a, b, c, d, e, f), f"EPSG:{code}" if known else None, "GeoTIFF tags")


def _envi_epsg(words: Sequence[str]) -> str | None:
    """EPSG code of map infos on WGS-84, which need no further words."""
    if not any(re.fullmatch(r"wgs[-_ ]?(19)?84", w.lower()) for w in words):
        return None
    if words[0].lower().startswith("geographic"):
        return f"EPSG:{EPSG_WGS84}"
    if words[0].lower() == "utm" and len(words) > 8 and words[7].isdecimal():
        base = EPSG_UTM_SOUTH if words[8].lower().startswith("s") else EPSG_UTM_NORTH
        return f"EPSG:{base + int(words[7])}"
    return None


def _geo_keys(directory: Sequence[int]) -> Mapping[int, int]:
    """Key -> value of those keys that hold their value in the directory itself."""
    entries = [directory[k : k + 4] for k in range(4, len(directory) - 3, 4)]
    return {int(key): int(value) for key, location, _, value in entries if location == 0}


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
