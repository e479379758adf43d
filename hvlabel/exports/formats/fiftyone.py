"""COCO in the folders that fiftyone.types.COCODetectionDataset reads: data/, labels.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hvlabel.exports.contract import Remarks
from hvlabel.exports.formats.coco import write_coco
from hvlabel.exports.image import ExportImage


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """COCO as FiftyOne lays it out; without these two names it asks for the paths of both."""
    return write_coco(images, categories, folder, "data", "labels.json")
