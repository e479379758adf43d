"""A data set of Hugging Face: pictures and objects in Parquet, with the features that `datasets` looks for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hvlabel.exports.contract import Remarks
from hvlabel.exports.image import ExportImage, quality_of
from hvlabel.masks.rle import areas, boxes_xywh

# the name tells the split, and that it is the only part
FILE = "data/train-00000-of-00001.parquet"
OBJECTS = {
    "id": pa.int64(),
    "category": pa.int64(),
    "bbox": pa.list_(pa.float32(), 4),
    "area": pa.int64(),
    "quality": pa.float32(),
    "counts": pa.string(),
}
# the struct that `datasets` decodes as a picture
PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
COLUMNS = {
    "image": PICTURE,
    "image_id": pa.int64(),
    "dataset": pa.string(),
    "name": pa.string(),
    "width": pa.int64(),
    "height": pa.int64(),
    "objects": pa.struct({name: pa.list_(kind) for name, kind in OBJECTS.items()}),
}


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """One Parquet file of a split `train`. An image is a row group: no more than one is in memory."""
    remarks = Remarks()
    (folder / "data").mkdir()
    # without it `datasets` would take pictures for plain structs
    info = {"features": _features(categories)}
    metadata = {"huggingface": json.dumps({"info": info})}
    schema = pa.schema(COLUMNS, metadata=metadata)
    with pq.ParquetWriter(folder / FILE, schema) as writer:
        for image in images:
            row = pa.Table.from_pylist([_row(image)], schema=schema)
            writer.write_table(row)
            remarks.add(image)
    (folder / "README.md").write_text(_card(categories), encoding="utf-8")
    return remarks


def _row(image: ExportImage) -> dict[str, Any]:
    masks, rles = image.masks.masks, image.masks.rles
    objects = {
        "id": list(image.numbers),
        "category": list(image.categories),
        "bbox": boxes_xywh(rles).tolist(),
        "area": areas(rles).tolist(),
        "quality": [quality_of(mask) for mask in masks],
        "counts": [rle["counts"].decode() for rle in rles],
    }
    return {
        "image": {"bytes": image.picture, "path": f"{image.flat_name}.png"},
        "image_id": image.number,
        "dataset": image.dataset,
        "name": image.name,
        "width": image.masks.width_px,
        "height": image.masks.height_px,
        "objects": objects,
    }


def _features(categories: Sequence[str]) -> dict[str, Any]:
    """The columns in the words of `datasets`."""

    def value(kind: str) -> dict[str, str]:
        return {"dtype": kind, "_type": "Value"}

    # a class label is a number with a name
    names = {"names": list(categories), "_type": "ClassLabel"}
    objects: dict[str, Any] = {
        "id": [value("int64")],
        "category": [names],
        "bbox": [{"feature": value("float32"), "length": 4, "_type": "Sequence"}],
        "area": [value("int64")],
        "quality": [value("float32")],
        "counts": [value("string")],
    }
    plain = {"image_id": "int64", "dataset": "string", "name": "string", "width": "int64", "height": "int64"}
    columns = {name: value(kind) for name, kind in plain.items()}
    return {"image": {"_type": "Image"}, **columns, "objects": objects}


def _card(categories: Sequence[str]) -> str:
    """The page of the data set."""
    return (
        "---\ntask_categories: [image-segmentation]\ntags: [hyperspectral, pseudo-labels]\n---\n\n"
        f"Pseudo-labels of hyperspectral images. Categories: {', '.join(categories)}. `objects.counts` are COCO's "
        "compressed run lengths of a mask of (height, width); `objects.bbox` is x, y, width, height in px.\n"
    )
