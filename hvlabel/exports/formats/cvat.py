"""CVAT for images 1.1: images/, annotations.xml with masks as run lengths of their boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from hvlabel.exports.contract import Remarks
from hvlabel.exports.image import ExportImage, quality_of
from hvlabel.masks import decode
from hvlabel.masks.rle import boxes_xywh


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """One XML file with all images. The root holds the labels, without which CVAT takes no mask in."""
    remarks = Remarks()
    (folder / "images").mkdir()
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    labels = ET.SubElement(task, "labels")
    for name in categories:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "type").text = "mask"
    for image in images:
        picture = f"{image.flat_name}.png"
        (folder / "images" / picture).write_bytes(image.picture)
        size = {"width": str(image.masks.width_px), "height": str(image.masks.height_px)}
        number = str(image.number - 1)  # CVAT counts frames from 0
        element = ET.SubElement(root, "image", {"id": number, "name": picture, **size})
        _add_masks(element, image, categories)
        remarks.add(image)
    ET.indent(root)
    content = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    (folder / "annotations.xml").write_bytes(content)
    return remarks


def run_lengths(inside: np.ndarray) -> list[int]:
    """Lengths of the runs of an (h, w) bool mask, along the rows, background first."""
    flat = np.concatenate([[False], inside.ravel()])  # a run of the background comes first, if only of length 0
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    bounds = np.concatenate([[0], ends, [inside.size]])
    return [int(n) for n in np.diff(bounds)]


def _add_masks(element: ET.Element, image: ExportImage, categories: Sequence[str]) -> None:
    boxes = boxes_xywh(image.masks.rles).astype(int).tolist()
    for k, (left, top, width, height) in enumerate(boxes):
        mask = image.masks.masks[k]
        whole = decode(mask.rle)
        piece = whole[top : top + height, left : left + width]  # CVAT's run lengths are of the box
        attributes = {
            "label": categories[image.categories[k]],
            "source": "auto",  # drawn by no person
            "occluded": "0",
            "rle": ", ".join(map(str, run_lengths(piece))),
            "left": str(left),
            "top": str(top),
            "width": str(width),
            "height": str(height),
            "z_order": str(len(boxes) - k),  # the best mask on top
        }
        drawn = ET.SubElement(element, "mask", attributes)
        ET.SubElement(drawn, "attribute", {"name": "quality"}).text = f"{quality_of(mask):.4f}"
