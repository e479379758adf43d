"""Label Studio: images/, tasks.json with a polygon per mask as predictions, config.xml for the project."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from hvlabel.exports.contract import Remarks
from hvlabel.exports.image import ExportImage, n_holes, one_ring, quality_of
from hvlabel.masks import decode

FROM_NAME, TO_NAME = "label", "image"
SERVED = "/data/local-files/?d=images/"  # what Label Studio serves from below its LOCAL_FILES_DOCUMENT_ROOT


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """Tasks with predictions, which people accept or correct. Corners are percent of width and height."""
    remarks = Remarks()
    (folder / "images").mkdir()
    tasks = []
    for image in images:
        picture = f"{image.flat_name}.png"
        (folder / "images" / picture).write_bytes(image.picture)
        regions = [_region(image, k, categories) for k in range(len(image.masks))]
        remarks.holes += sum(n_holes(decode(rle)) > 0 for rle in image.masks.rles)
        prediction = {"model_version": "hvlabel", "result": regions}
        data = {TO_NAME: SERVED + quote(picture), "dataset": image.dataset, "name": image.name}
        tasks.append({"data": data, "predictions": [prediction]})
        remarks.add(image)
    (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    (folder / "config.xml").write_text(_config(categories), encoding="utf-8")
    remarks.note(
        "start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT at this folder, make a project with config.xml, add its folder images "
        "as local storage, import tasks.json"
    )
    return remarks


def _region(image: ExportImage, k: int, categories: Sequence[str]) -> dict[str, Any]:
    """One mask as a polygon."""
    mask = image.masks.masks[k]
    width, height = image.masks.width_px, image.masks.height_px
    to_percent = 100 / np.array([width, height])
    percent = one_ring(decode(mask.rle)) * to_percent  # (P, 2)
    points = percent.round(4).tolist()  # to a millionth of a side
    value = {"points": points, "closed": True, "polygonlabels": [categories[image.categories[k]]]}
    return {
        "id": f"mask{image.numbers[k]}",
        "type": "polygonlabels",
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        # percent alone do not tell the size, and Label Studio exports run lengths by it
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": quality_of(mask),
        "value": value,
    }


def _config(categories: Sequence[str]) -> str:
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in categories)
    return (
        f'<View>\n  <Image name="{TO_NAME}" value="${TO_NAME}"/>\n'
        f'  <PolygonLabels name="{FROM_NAME}" toName="{TO_NAME}">\n{labels}  </PolygonLabels>\n</View>\n'
    )
