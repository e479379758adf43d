"""A table with a row per mask: masks.parquet, and the pictures beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hvlabel.exports.contract import Remarks
from hvlabel.exports.image import ExportImage, quality_of
from hvlabel.masks.rle import areas, boxes_xywh

SCHEMA = pa.schema(
    {
        "dataset": pa.string(),
        "image": pa.string(),
        "picture": pa.string(),
        "height_px": pa.int32(),
        "width_px": pa.int32(),
        "mask": pa.int32(),  # its number in the label
        "category": pa.string(),
        "branch": pa.string(),
        "votes": pa.list_(pa.string()),
        "score": pa.float32(),
        "quality": pa.float32(),
        "area_px": pa.int64(),
        "box_xywh_px": pa.list_(pa.float32(), 4),
        "counts": pa.string(),  # COCO compressed run lengths, of (height_px, width_px)
    }
)


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """A table in SCHEMA. An image is a row group: no more than one is in memory, and readers may skip to one."""
    remarks = Remarks()
    (folder / "images").mkdir()
    with pq.ParquetWriter(folder / "masks.parquet", SCHEMA) as writer:
        for image in images:
            picture = f"images/{image.flat_name}.png"
            (folder / picture).write_bytes(image.picture)
            writer.write_table(_rows(image, picture, categories))
            remarks.add(image)
    return remarks


def _rows(image: ExportImage, picture: str, categories: Sequence[str]) -> pa.Table:
    masks, rles = image.masks.masks, image.masks.rles
    n = len(masks)
    columns = {
        "dataset": [image.dataset] * n,
        "image": [image.name] * n,
        "picture": [picture] * n,
        "height_px": [image.masks.height_px] * n,
        "width_px": [image.masks.width_px] * n,
        "mask": list(image.numbers),
        "category": [categories[c] for c in image.categories],
        "branch": [mask.branch for mask in masks],
        "votes": [list(mask.votes) for mask in masks],
        "score": [mask.score for mask in masks],
        "quality": [quality_of(mask) for mask in masks],
        "area_px": areas(rles).tolist(),
        "box_xywh_px": boxes_xywh(rles).tolist(),
        "counts": [rle["counts"].decode() for rle in rles],
    }
    return pa.table(columns, schema=SCHEMA)
