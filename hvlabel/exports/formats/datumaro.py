"""Datumaro's own JSON: images/default/, annotations/default.json. Written plainly: its package pins older libraries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hvlabel.exports.contract import Remarks
from hvlabel.exports.image import ExportImage, quality_of


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """One JSON file of a subset `default`, in which every mask keeps its number of the label."""
    remarks = Remarks()
    (folder / "images" / "default").mkdir(parents=True)
    (folder / "annotations").mkdir()
    items = []
    for image in images:
        picture = f"{image.flat_name}.png"
        (folder / "images" / "default" / picture).write_bytes(image.picture)
        size = [image.masks.height_px, image.masks.width_px]
        annotations = [_annotation(image, k) for k in range(len(image.masks))]
        media = {"path": picture, "size": size}
        items.append({"id": image.flat_name, "annotations": annotations, "attr": {}, "image": media})
        remarks.add(image)
    labels = [{"name": name, "parent": "", "attributes": []} for name in categories]
    document = {
        "dm_format_version": "1.0",
        "media_type": 2,  # images
        "infos": {},
        "categories": {"label": {"labels": labels, "attributes": []}},
        "items": items,
    }
    text = json.dumps(document)
    (folder / "annotations" / "default.json").write_text(text, encoding="utf-8")
    return remarks


def _annotation(image: ExportImage, k: int) -> dict[str, Any]:
    mask = image.masks.masks[k]
    return {
        "id": image.numbers[k],
        "type": "mask",
        "attributes": {"quality": quality_of(mask), "score": mask.score, "votes": ",".join(mask.votes)},
        "group": image.numbers[k] + 1,  # 0 would mean: of no group
        "label_id": image.categories[k],
        "rle": {"counts": mask.rle["counts"].decode(), "size": list(mask.rle["size"])},
        "z_order": len(image.masks) - k,
    }
