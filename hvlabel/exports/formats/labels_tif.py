"""A label image per image: DATASET/IMAGE.tif, and masks.csv that tells which value is which mask."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tifffile

from hvlabel.exports.contract import Remarks, needed
from hvlabel.exports.image import ExportImage, label_image, quality_of

COLUMNS = ("dataset", "image", "value", "mask", "category", "quality", "visible_px")


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """Label images with values from 1, and a table of them.

    With a place on the ground it needs rasterio, which knows coordinate systems; other images need tifffile alone.
    """
    remarks = Remarks()
    with (folder / "masks.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for image in images:
            values, hidden = label_image(image.masks)
            remarks.hidden += hidden
            path = folder / image.dataset / f"{image.name}.tif"
            path.parent.mkdir(exist_ok=True)
            if image.georeference is None:
                tifffile.imwrite(path, values, compression="deflate")
            else:
                _write_in_place(path, values, image)
            # a mask below better ones may show nothing: the table has it all the same
            visible_px = np.bincount(values.ravel(), minlength=len(image.masks) + 1)
            for k, mask in enumerate(image.masks.masks):
                value = k + 1  # 0 is the background
                named = (image.numbers[k], categories[image.categories[k]], f"{quality_of(mask):.4f}")
                table.writerow([image.dataset, image.name, value, *named, int(visible_px[value])])
            remarks.add(image)
    return remarks


def _write_in_place(path: Path, values: np.ndarray, image: ExportImage) -> None:
    """A GeoTIFF."""
    rasterio = needed("rasterio", "geo")
    assert image.georeference is not None
    size = {"height": values.shape[0], "width": values.shape[1], "count": 1}
    transform = rasterio.Affine(*image.georeference["transform"])
    place = {"crs": image.georeference["crs"], "transform": transform}
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype, compress="deflate", nodata=0, **size, **place
    ) as f:
        f.write(values, 1)
