"""YOLO segmentation: images/, labels/ with a polygon per line, data.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import yaml

from hvlabel.exports.contract import Remarks
from hvlabel.exports.image import ExportImage, n_holes, one_ring
from hvlabel.masks import decode


def write(images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
    """A text file per image, a line per mask: category, then x, y of its corners.

    Corners are shares of width and height, of pixel edges; categories count from 0.
    An image without a mask has an empty file: YOLO takes it for background, and a missing file for a mistake.
    """
    remarks = Remarks()
    n_alike = 0
    for name in ("images", "labels"):
        (folder / name / "train").mkdir(parents=True)
    for image in images:
        (folder / "images" / "train" / f"{image.flat_name}.png").write_bytes(image.picture)
        size_xy = np.array([image.masks.width_px, image.masks.height_px])
        lines = []
        for rle, category in zip(image.masks.rles, image.categories, strict=True):
            inside = decode(rle)
            remarks.holes += n_holes(inside) > 0
            corners = (one_ring(inside) / size_xy).ravel()  # x, y, x, y, ...
            shares = [f"{share:.6f}" for share in corners]
            lines.append(" ".join([str(category), *shares]))
        n_alike += len(lines) - len(set(lines))
        text = "".join(f"{line}\n" for line in lines)
        (folder / "labels" / "train" / f"{image.flat_name}.txt").write_text(text)
        remarks.add(image)
    if n_alike:
        remarks.note(f"{n_alike} masks without their holes are another one: ultralytics reads such lines once")
    # path is left out: it is then the folder of this file, wherever it is carried
    # training insists on a validation set; which images that shall be is the user's choice
    content = {"train": "images/train", "val": "images/train", "names": dict(enumerate(categories))}
    text = yaml.safe_dump(content, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return remarks
