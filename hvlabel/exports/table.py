"""Every format that labels are written in: a new one is a file in formats/ and a row here."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from hvlabel.errors import ConfigError
from hvlabel.exports.contract import Write


class Row(NamedTuple):
    """A format.

    module   : in hvlabel.exports.formats; its `write` does the work
    pictures : whether it holds the pictures of the images
    packages : optional ones that it cannot do without, of the extra `geo`
    """

    name: str
    module: str
    what: str
    pictures: bool = True
    packages: tuple[str, ...] = ()


GEO = ("geopandas", "rasterio")
TABLE = (
    Row("coco", "coco", "COCO instances with run lengths, and the pictures"),
    Row("fiftyone", "fiftyone", "COCO in FiftyOne's folders: data/, labels.json"),
    Row("yolo", "yolo", "YOLO segmentation: a polygon per line, data.yaml"),
    Row("cvat", "cvat", "CVAT for images 1.1: annotations.xml with masks"),
    Row("labelstudio", "label_studio", "Label Studio tasks with polygons as predictions, and its configuration"),
    Row("datumaro", "datumaro", "Datumaro's own JSON"),
    Row("parquet", "parquet", "a table with a row per mask"),
    Row("huggingface", "huggingface", "a data set of Hugging Face: pictures and objects in Parquet"),
    Row("labels-tif", "labels_tif", "a label image per image, in its place on the ground where that is known", False),
    Row("ngff", "ngff", "OME-Zarr 0.5: picture and label image, for napari"),
    Row("geojson", "geojson", "polygons in WGS 84, for QGIS and the web", False, GEO),
    Row("gpkg", "gpkg", "polygons in the coordinate system of the image, for QGIS", False, GEO),
)
NAMES = tuple(row.name for row in TABLE)


def row_of(name: str) -> Row:
    """The row of a format; ConfigError if there is no such format."""
    row = next((row for row in TABLE if row.name == name), None)
    if row is None:
        raise ConfigError(f"no export {name!r}; there are {', '.join(NAMES)}")
    return row


def writer_of(row: Row) -> Write:
    """What writes a format."""
    # imported when asked for: some formats bring packages that take seconds to load
    module = importlib.import_module(f"hvlabel.exports.formats.{row.module}")
    write: Write = module.write
    return write
