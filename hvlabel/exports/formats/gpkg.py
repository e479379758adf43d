"""GeoPackage: masks.gpkg with a layer per image, in the image's coordinate system."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hvlabel.exports.contract import Remarks
from hvlabel.exports.image import ExportImage
from hvlabel.exports.outlines import frame_of, write_frame


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """One file; layers are apart, since images of several places have several coordinate systems."""
    remarks = Remarks()
    for image in images:
        frame = frame_of(image, categories, remarks)
        write_frame(frame, folder / "masks.gpkg", layer=image.flat_name, driver="GPKG")
        remarks.add(image)
    return remarks
