"""Mask files that people changed by hand: told from damaged ones, and sealed again as corrected."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from hvlabel.errors import MaskFileError
from hvlabel.masks.rle import areas, boxes_xywh, decode, interior_point
from hvlabel.masks.sa1b import SEAL, is_sealed, sealed

CORRECTED = "corrected"  # entry of the provenance
NUMBERS = ("score", "predicted_iou", "stability_score")
POLYGON_NUMBERS = 6  # of three points


def is_corrected(document: dict[str, Any]) -> bool:
    """Whether a parsed file was accepted after people had changed it."""
    return CORRECTED in document["provenance"]


def read_edited(path: Path) -> dict[str, Any] | None:
    """The parsed file if it is a mask file whose content was changed after it was sealed, else None."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    known = isinstance(document, dict) and {"image", "annotations", "provenance"} <= document.keys()
    if not known or not isinstance(document["provenance"], dict) or SEAL not in document["provenance"]:
        return None
    return None if is_sealed(document) else document


def corrected(path: Path, edited: dict[str, Any]) -> dict[str, Any]:
    """An edited document as a sealed one; its provenance says which content it replaces.

    What follows from the masks is computed anew: boxes, areas, numbers, the share of the foreground. A segmentation may be
    an RLE, compressed or not, or polygons. An annotation needs nothing else: it gets the best score and the branch `person`.
    path: for messages. MaskFileError says which annotation is wrong and how.
    """
    image, annotations = edited["image"], edited["annotations"]
    if not isinstance(annotations, list):
        raise MaskFileError(f"{path}: annotations is no list; restore it")
    try:
        size = int(image["height"]), int(image["width"])
    except (TypeError, KeyError, ValueError) as error:
        raise MaskFileError(f"{path}: its image has no height and width; restore them") from error
    if min(size) < 1:
        raise MaskFileError(f"{path}: its image is {size[0]} x {size[1]} px, expected positive sizes; restore them")
    kept = [_annotation(path, k, a, size) for k, a in enumerate(annotations)]
    new_numbers = {str(a.get("id")): k for k, a in enumerate(annotations)}
    losers = edited.get("suppressed") or []
    if not isinstance(losers, list) or not all(isinstance(s, dict) for s in losers):
        raise MaskFileError(f"{path}: suppressed is no list of masks; restore it")
    suppressed = [_suppressed(s, new_numbers) for s in losers]
    before = edited["provenance"]
    first = before.get(CORRECTED, {}).get("replaces", before[SEAL])
    provenance = {k: v for k, v in before.items() if k != SEAL} | {CORRECTED: {"replaces": first}}
    if "foreground_share" in provenance:
        union = np.zeros(size, bool)
        for a in kept:
            union |= decode({"size": list(size), "counts": a["segmentation"]["counts"].encode()})
        provenance["foreground_share"] = round(float(union.mean()), 6)
    image = {**image, "height": size[0], "width": size[1]}
    return sealed({**edited, "image": image, "annotations": kept, "suppressed": suppressed, "provenance": provenance})


def _annotation(path: Path, k: int, given: Any, size: tuple[int, int]) -> dict[str, Any]:
    """The k-th annotation with what follows from its mask."""
    if not isinstance(given, dict) or "segmentation" not in given:
        raise MaskFileError(f"{path}: annotation {k} has no segmentation; restore it or delete the annotation")
    rle = _rle(path, k, given["segmentation"], size)
    area_px = int(areas([rle])[0])
    if not area_px:
        raise MaskFileError(f"{path}: the mask of annotation {k} is empty; delete the annotation")
    defaults = {
        "predicted_iou": 1.0,
        "stability_score": 1.0,
        "crop_box": [0, 0, size[1], size[0]],
        "score": 1.0,
        "branch": "person",
        "frame": None,
        "bands": None,
        "votes": [],
    }
    said = {name: value for name, value in given.items() if value is not None}
    for name in NUMBERS:
        if name in said and (
            isinstance(said[name], bool) or not isinstance(said[name], int | float) or not math.isfinite(said[name])
        ):
            raise MaskFileError(
                f"{path}: {name} of annotation {k} is {said[name]!r}, expected a number; mend or remove it"
            )
    point = said.get("point_coords") or [list(interior_point(decode(rle)))]
    return {
        **defaults,
        **said,
        "id": k,
        "segmentation": {"size": list(size), "counts": rle["counts"].decode()},
        "bbox": boxes_xywh([rle])[0].tolist(),
        "area": area_px,
        "point_coords": point,
    }


def _rle(path: Path, k: int, given: Any, size: tuple[int, int]) -> Any:
    """Compressed RLE of a segmentation of any COCO form."""
    height, width = size
    try:
        if isinstance(given, list):
            if any(len(polygon) % 2 or len(polygon) < POLYGON_NUMBERS for polygon in given):
                raise MaskFileError(f"{path}: a polygon of annotation {k} has no three points x, y; draw it again")
            return coco.merge(coco.frPyObjects(given, height, width))
        if list(given["size"]) != list(size):
            raise MaskFileError(
                f"{path}: the mask of annotation {k} is of {given['size']}, the image of {list(size)} (height, width); draw it again"
            )
        if isinstance(given["counts"], list):
            whole = all(isinstance(n, int) and n >= 0 for n in given["counts"])
            if not whole or sum(given["counts"]) != height * width:
                raise MaskFileError(f"{path}: the run lengths of annotation {k} do not fill the image; restore them")
            return coco.frPyObjects(given, height, width)
        rle = {"size": list(size), "counts": given["counts"].encode()}
        decoded = decode(rle)  # type: ignore[arg-type]
    except MaskFileError:
        raise
    except Exception as error:  # pycocotools raises many kinds; each means that it is no mask
        raise MaskFileError(
            f"{path}: the segmentation of annotation {k} is neither an RLE nor polygons ({str(error)[:60]}); restore it"
        ) from error
    if coco.encode(np.asfortranarray(decoded.astype(np.uint8)))["counts"] != rle["counts"]:
        raise MaskFileError(f"{path}: the run lengths of annotation {k} do not fill the image; restore them")
    return rle


def _suppressed(given: dict[str, Any], new_numbers: dict[str, int]) -> dict[str, Any]:
    """A suppressed mask with the number that its winner has now; without one if that is gone."""
    winner = None if given.get("by") is None else new_numbers.get(str(given["by"]))
    return {**given, "by": winner, "iou": given.get("iou") if winner is not None else None}
