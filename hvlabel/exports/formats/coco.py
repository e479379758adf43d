"""COCO instances with compressed run lengths, in the folders of CVAT and Datumaro: images/default/, annotations/."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hvlabel.exports.contract import Remarks
from hvlabel.exports.image import ExportImage, quality_of
from hvlabel.masks.rle import areas, boxes_xywh


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """A COCO file with all images. Categories are numbered from 1, as COCO does.

    The layout is that of CVAT and Datumaro, which find the pictures by it; other readers take any.
    """
    return write_coco(images, categories, folder, "images/default", "annotations/instances_default.json")


def write_coco(
    images: Iterable[ExportImage], categories: Sequence[str], folder: Path, picture_folder: str, file_name: str
) -> Remarks:
    """COCO with its pictures and its file at these places."""
    remarks = Remarks()
    for path in (folder / picture_folder, (folder / file_name).parent):
        path.mkdir(parents=True, exist_ok=True)
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in images:
        picture = f"{image.flat_name}.png"
        (folder / picture_folder / picture).write_bytes(image.picture)
        listed.append(
            {
                # from 1: some readers take 0 for "no image"
                "id": image.number,
                "file_name": picture,
                "width": image.masks.width_px,
                "height": image.masks.height_px,
                "dataset": image.dataset,
                "name": image.name,
            }
        )
        annotations += _annotations(image, first_id=len(annotations) + 1)
        remarks.add(image)
    named = [{"id": k, "name": name} for k, name in enumerate(categories, start=1)]
    document = {"info": {}, "licenses": [], "images": listed, "annotations": annotations, "categories": named}
    (folder / file_name).write_text(json.dumps(document), encoding="utf-8")
    return remarks


def _annotations(image: ExportImage, first_id: int) -> list[dict[str, Any]]:
    """first_id: of an annotation; ids are unique over all images, as pycocotools asks."""
    rles = image.masks.rles
    boxes = boxes_xywh(rles)
    area_px = areas(rles)
    return [
        {
            "id": first_id + k,
            "image_id": image.number,
            "category_id": image.categories[k] + 1,
            "segmentation": {"size": list(mask.rle["size"]), "counts": mask.rle["counts"].decode()},
            "bbox": boxes[k].tolist(),
            "area": int(area_px[k]),
            "iscrowd": 0,  # run lengths mean a crowd to some tools unless this says otherwise
            # further keys are left alone by COCO's readers
            "score": mask.score,
            "quality": quality_of(mask),
            "votes": list(mask.votes),
            "label_id": image.numbers[k],
        }
        for k, mask in enumerate(image.masks.masks)
    ]
