"""Masks of an image as polygons in its place on the ground."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.exports.contract import Remarks, needed
from hvlabel.exports.image import ExportImage, quality_of
from hvlabel.masks import areas, decode

PIXELS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # the transform of an image without a place: px, y downwards


def frame_of(image: ExportImage, categories: Sequence[str], remarks: Remarks) -> Any:
    """A GeoDataFrame with a row per mask: along the edges of its pixels, holes included.

    remarks : are told where an image has no place, or no coordinate system
    """
    geopandas = needed("geopandas", "geo")
    geometry = needed("shapely.geometry", "geo")
    place = image.georeference or {}
    transform = place.get("transform", PIXELS)
    crs = place.get("crs")
    if not place:
        remarks.note("images without a place on the ground have coordinates in px, y downwards")
    elif crs is None:
        remarks.note("images without a coordinate system have the coordinates of their own transform")
    # along the edges of pixels, so that an area is a number of pixels
    outlines = (_outline(decode(rle), transform) for rle in image.masks.rles)
    shapes = [geometry.shape(outline) for outline in outlines]
    columns = {
        "image": [f"{image.dataset}/{image.name}"] * len(shapes),
        "mask": list(image.numbers),
        "category": [categories[c] for c in image.categories],
        "quality": [quality_of(mask) for mask in image.masks.masks],
        "votes": [",".join(mask.votes) for mask in image.masks.masks],
        "area_px": areas(image.masks.rles).tolist(),
    }
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs)


def write_frame(frame: Any, path: Path, **options: Any) -> None:
    """A frame to a file of GDAL's. options: of pyogrio."""
    with warnings.catch_warnings():
        # a remark says that there is no coordinate system
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
        frame.to_file(path, engine="pyogrio", **options)


def _outline(inside: np.ndarray, transform: Sequence[float]) -> dict[str, Any]:
    """A MultiPolygon of GeoJSON: one polygon per piece."""
    rasterio = needed("rasterio", "geo")
    features = needed("rasterio.features", "geo")
    in_bytes = inside.astype(np.uint8)  # rasterio takes no bool
    pieces = features.shapes(in_bytes, mask=inside, transform=rasterio.Affine(*transform))
    polygons = [piece["coordinates"] for piece, _ in pieces]
    return {"type": "MultiPolygon", "coordinates": polygons}
