"""Where an image lies on the ground: coordinate system and affine transform, of GeoTIFF tags and ENVI's `map info`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

# GeoTIFF 1.1: keys of the key directory
RASTER_TYPE, GEOGRAPHIC_CRS, PROJECTED_CRS = 1025, 2048, 3072
PIXEL_IS_POINT, USER_DEFINED, UNDEFINED = 2, 32767, 0
EPSG_WGS84, EPSG_UTM_NORTH, EPSG_UTM_SOUTH = 4326, 32600, 32700
WGS84_NAME = re.compile(r"wgs[-_ ]?(19)?84")
NO_PLACE = ("arbitrary", "pixel")  # projections of ENVI that count pixels

Transform = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Georeference:
    """Place of an image.

    transform : (a, b, c, d, e, f) with x = a * column + b * row + c and y = d * column + e * row + f, where (0, 0) is
                the outer corner of the first pixel
    crs       : "EPSG:code", or well-known text, or None if the file does not say
    source    : the file's own words, e.g. ENVI's `map info`
    """

    transform: Transform
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
        # each product puts the way from new to old pixels before the way from old pixels to the ground
        matrix = np.array([*self.transform, 0, 0, 1]).reshape(3, 3)
        down = np.array([[1, 0, 0], [0, 1, first_row], [0, 0, 1]])  # row 0 was first_row
        matrix = matrix @ down
        for _ in range(rot90):
            # pixel (column, row) of the turned image was at (width - row, column)
            turn = np.array([[0, -1, width_px], [1, 0, 0], [0, 0, 1]])
            matrix = matrix @ turn
            height_px, width_px = width_px, height_px
        a, b, c, d, e, f = (float(v) for v in matrix[:2].ravel())
        return replace(self, transform=(a, b, c, d, e, f))


def from_map_info(map_info: str | None, coordinate_system: str | None) -> Georeference | None:
    """Of an ENVI header's `map info` and `coordinate system string`; None where they name no sound place.

    Map info: projection, column and row of a reference point (counted from 1, at the pixel's outer corner), its x and
    y, pixel width and height, and for UTM zone and hemisphere, then the datum; `rotation=` degrees counter-clockwise.
    """
    if not map_info:
        return None
    words = [word.strip() for word in map_info.split(",")]
    if words[0].lower() in NO_PLACE:
        return None
    try:
        numbers = [float(word) for word in words[1:7]]
        column, row, x, y, width, height = numbers
    except ValueError:  # a word that is none, or too few
        return None
    if not all(map(math.isfinite, numbers)) or 0 in (width, height):
        return None
    named = dict(word.lower().split("=", 1) for word in words if "=" in word)
    rotation = _number(named.get("rotation"))  # degrees
    angle = math.radians(rotation)
    cosine, sine = math.cos(angle), math.sin(angle)
    a, b = width * cosine, height * sine
    d, e = width * sine, -height * cosine  # rows go down, y goes up
    corner_x = x - a * (column - 1) - b * (row - 1)
    corner_y = y - d * (column - 1) - e * (row - 1)
    crs = coordinate_system.strip() if coordinate_system else None
    transform = (a, b, corner_x, d, e, corner_y)
    return Georeference(transform, _envi_epsg(words) or crs, map_info)


def from_geotiff(
    scale: Sequence[float] | None,
    tiepoint: Sequence[float] | None,
    matrix: Sequence[float] | None,
    keys: Sequence[int] | None,
) -> Georeference | None:
    """Of the tags ModelPixelScale, ModelTiepoint, ModelTransformation and GeoKeyDirectory; None without a transform."""
    codes = _geo_keys(keys or ())
    transform = _geotiff_transform(scale, tiepoint, matrix)
    if transform is None:
        return None
    a, b, c, d, e, f = transform
    if codes.get(RASTER_TYPE) == PIXEL_IS_POINT:  # the transform is of pixel centres then
        c -= (a + b) / 2  # half a column and half a row back, to the pixel's corner
        f -= (d + e) / 2
    code = codes.get(PROJECTED_CRS, codes.get(GEOGRAPHIC_CRS))
    is_known = code is not None and code not in (USER_DEFINED, UNDEFINED)
    crs = f"EPSG:{code}" if is_known else None
    return Georeference((a, b, c, d, e, f), crs, "GeoTIFF tags")


def _geotiff_transform(
    scale: Sequence[float] | None, tiepoint: Sequence[float] | None, matrix: Sequence[float] | None
) -> Transform | None:
    """Of the 4x4 matrix, else of one tie point and the pixel's sizes."""
    if matrix is not None and len(matrix) >= 8:
        a, b, _, c, d, e, _, f = (float(v) for v in matrix[:8])  # two rows of x, y, z, 1
        return a, b, c, d, e, f
    if scale is None or tiepoint is None or len(scale) < 2 or len(tiepoint) < 6:
        return None
    column, row, _, x, y, _ = (float(v) for v in tiepoint[:6])
    a, e = float(scale[0]), -float(scale[1])  # rows go down, y goes up
    corner_x = x - a * column
    corner_y = y - e * row
    return a, 0.0, corner_x, 0.0, e, corner_y


def _envi_epsg(words: Sequence[str]) -> str | None:
    """EPSG code of map infos on WGS-84, which need no further words."""
    if not any(WGS84_NAME.fullmatch(word.lower()) for word in words):
        return None
    projection = words[0].lower()
    if projection.startswith("geographic"):
        return f"EPSG:{EPSG_WGS84}"
    if projection == "utm" and len(words) > 8 and words[7].isdecimal():
        zone = int(words[7])
        hemisphere = words[8].lower()
        base = EPSG_UTM_SOUTH if hemisphere.startswith("s") else EPSG_UTM_NORTH
        return f"EPSG:{base + zone}"
    return None


def _geo_keys(directory: Sequence[int]) -> Mapping[int, int]:
    """Key -> value of those keys that hold it in the directory itself: fours of numbers after a head of four."""
    entries = [directory[k : k + 4] for k in range(4, len(directory) - 3, 4)]
    return {int(key): int(value) for key, location, _, value in entries if location == 0}


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
