"""GeoJSON: DATASET/IMAGE.geojson, a polygon with holes per mask, longitude and latitude as RFC 7946 asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hvlabel.exports.contract import Remarks
from hvlabel.exports.image import ExportImage
from hvlabel.exports.outlines import frame_of, write_frame

WGS84 = "EPSG:4326"


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """A file per image. Without a coordinate system the numbers are those of the image: its own units, or px."""
    remarks = Remarks()
    for image in images:
        frame = frame_of(image, categories, remarks)
        path = folder / image.dataset / f"{image.name}.geojson"
        path.parent.mkdir(exist_ok=True)
        is_placed = frame.crs is not None
        write_frame(frame.to_crs(WGS84) if is_placed else frame, path, driver="GeoJSON")
        remarks.add(image)
    return remarks
