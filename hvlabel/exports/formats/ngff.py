"""OME-Zarr 0.5: DATASET/IMAGE.ome.zarr with the picture (c, y, x) and below `labels/masks` the label image (y, x).

Written with zarr alone: the package ome-zarr asks for older versions of what is pinned here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zarr

from hvlabel.exports.contract import Remarks
from hvlabel.exports.image import ExportImage, label_image, quality_of

VERSION = "0.5"
CHUNK_PX = 512
SPACE = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """A group per image. Each has one level: images of some hundred pixels need no pyramid."""
    remarks = Remarks()
    for image in images:
        group = zarr.create_group(folder / image.dataset / f"{image.name}.ome.zarr", zarr_format=3)
        content = np.frombuffer(image.picture, np.uint8)
        bgr = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR))  # (H, W, 3)
        rgb = bgr[:, :, ::-1].transpose(2, 0, 1)
        _add_array(group, np.ascontiguousarray(rgb), ("c", "y", "x"))
        # channels first: the specification asks for c before y and x
        axes = [{"name": "c", "type": "channel"}, *SPACE]
        group.attrs["ome"] = {"version": VERSION, **_multiscales(image.name, axes), "omero": _channels()}
        values, hidden = label_image(image.masks)
        remarks.hidden += hidden
        labels = group.create_group("labels")
        labels.attrs["ome"] = {"version": VERSION, "labels": ["masks"]}
        masks = labels.create_group("masks")  # viewers find it by the list above
        _add_array(masks, values, ("y", "x"))
        properties = _properties(image, categories)
        about = {"properties": properties, "source": {"image": "../../"}}  # where the group of the image lies
        of_label: dict[str, Any] = {"image-label": about}
        masks.attrs["ome"] = {"version": VERSION, **_multiscales("masks", SPACE), **of_label}
        remarks.add(image)
    return remarks


def _add_array(group: zarr.Group, values: np.ndarray, names: tuple[str, ...]) -> None:
    """The only level of a pyramid."""
    sides = tuple(min(CHUNK_PX, n) for n in values.shape[-2:])
    chunks = (*values.shape[:-2], *sides)
    group.create_array("0", data=values, chunks=chunks, dimension_names=names)


def _multiscales(name: str, axes: list[dict[str, str]]) -> dict[str, Any]:
    scale = {"type": "scale", "scale": [1.0] * len(axes)}  # a step is a pixel
    level = {"path": "0", "coordinateTransformations": [scale]}
    return {"multiscales": [{"name": name, "axes": axes, "datasets": [level]}]}


def _channels() -> dict[str, Any]:
    """How viewers show the three channels."""
    window = {"start": 0, "end": 255, "min": 0, "max": 255}
    colours = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}
    channels = []
    for name, colour in colours.items():
        channels.append({"label": name, "color": colour, "active": True, "window": window})
    return {"channels": channels}


def _properties(image: ExportImage, categories: Sequence[str]) -> list[dict[str, Any]]:
    """What is known about each value of the label image."""
    return [
        {
            "label-value": k + 1,
            "mask": image.numbers[k],
            "category": categories[image.categories[k]],
            "quality": quality_of(mask),
        }
        for k, mask in enumerate(image.masks.masks)
    ]
