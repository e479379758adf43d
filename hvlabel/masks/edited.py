"""Mask files that people changed by hand: told from damaged ones, and sealed again as corrected."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from hvlabel.errors import MaskFileError
from hvlabel.masks.rle import Rle, areas, boxes_xywh, compressed, decode, interior_point, union
from hvlabel.masks.sa1b import SEAL, image_name, is_mask_document, is_sealed, numeric_id, sealed

CORRECTED = "corrected"  # entry of the provenance
NUMBERS = ("score", "predicted_iou", "stability_score")
FAR = 4  # times the image's longer side, beyond which no corner of a polygon lies
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
    if not is_mask_document(document):
        return None
    provenance = document["provenance"]
    was_sealed = isinstance(provenance, dict) and SEAL in provenance
    return document if was_sealed and not is_sealed(document) else None


def corrected(path: Path, edited: dict[str, Any]) -> dict[str, Any]:
    """An edited document as a sealed one; its provenance says which content it replaces.

    path : for messages
    What follows from the masks is computed anew: boxes, areas, numbers, the share of the foreground. A segmentation may
    be an RLE, compressed or not, or polygons. An annotation needs nothing else: it gets the best score and the branch
    `person`. MaskFileError says which annotation is wrong and how.
    """
    annotations = edited["annotations"]
    if not isinstance(annotations, list):
        raise MaskFileError(f"{path}: annotations is no list; restore it")
    size = _size(path, edited["image"])
    kept = [_annotation(path, k, given, size) for k, given in enumerate(annotations)]
    losers = edited.get("suppressed") or []
    if not isinstance(losers, list) or not all(isinstance(loser, dict) for loser in losers):
        raise MaskFileError(f"{path}: suppressed is no list of masks; restore it")
    # annotations are counted anew, so what they suppressed has to follow
    new_numbers = {str(given.get("id")): k for k, given in enumerate(annotations)}
    suppressed = [_suppressed(loser, new_numbers) for loser in losers]
    provenance = _provenance(edited["provenance"])
    if "foreground_share" in provenance:
        provenance["foreground_share"] = _foreground_share(kept, size)
    height, width = size
    image = {**edited["image"], "height": height, "width": width}
    if not isinstance(image.get("image_id"), int):  # a file of an older version, whose id was its name
        name = image_name(edited)
        image |= {"image_id": numeric_id(name), "name": name}
    changed = {"image": image, "annotations": kept, "suppressed": suppressed, "provenance": provenance}
    return sealed({**edited, **changed})


def segmentation_rle(path: Path, k: int, given: Any, size: tuple[int, int]) -> Any:
    """Compressed RLE of a segmentation of any COCO form: RLE, compressed or not, or polygons.

    path, k : file and number of the annotation, for messages
    size    : height and width of the image, px
    MaskFileError if it is none of them, damaged, or of another size.
    """
    try:
        if isinstance(given, list):
            return _of_polygons(path, k, given, size)
        if list(given["size"]) != list(size):
            raise MaskFileError(
                f"{path}: the mask of annotation {k} is of {given['size']}, the image of {list(size)} (height, width); "
                "draw it again"
            )
        if isinstance(given["counts"], list):
            return _of_run_lengths(path, k, given, size)
        rle = {"size": list(size), "counts": compressed(given["counts"])}
        decoded = decode(rle)  # type: ignore[arg-type]
    except MaskFileError:
        raise
    except Exception as error:  # pycocotools raises many kinds; each means that it is no mask
        raise MaskFileError(
            f"{path}: the segmentation of annotation {k} is neither an RLE nor polygons ({str(error)[:60]}); restore it"
        ) from error
    # run lengths that end early or late are decoded all the same; encoding again shows it
    in_columns = np.asfortranarray(decoded.astype(np.uint8))  # pycocotools takes no other order
    again = coco.encode(in_columns)
    if again["counts"] != rle["counts"]:
        raise _unfilled(path, k)
    return rle


def _size(path: Path, image: Any) -> tuple[int, int]:
    """Height and width that the file gives, px."""
    try:
        height = int(image["height"])
        width = int(image["width"])
    except (TypeError, KeyError, ValueError) as error:
        raise MaskFileError(f"{path}: its image has no height and width; restore them") from error
    if min(height, width) < 1:
        raise MaskFileError(f"{path}: its image is {height} x {width} px, expected positive sizes; restore them")
    return height, width


def _provenance(before: dict[str, Any]) -> dict[str, Any]:
    """What a corrected file says that it was made from; after several corrections still what the pipeline had made."""
    earlier = before.get(CORRECTED, {})
    first = earlier.get("replaces", before[SEAL])
    unsealed = {name: value for name, value in before.items() if name != SEAL}
    return {**unsealed, CORRECTED: {"replaces": first}}


def _foreground_share(annotations: list[dict[str, Any]], size: tuple[int, int]) -> float:
    """Share of the image that some mask covers."""
    height, width = size
    rles = []
    for annotation in annotations:
        counts = annotation["segmentation"]["counts"].encode()
        rles.append(Rle(size=[height, width], counts=counts))
    covered_px = areas([union(rles, height, width)])[0]
    return round(float(covered_px / (height * width)), 6)


def _annotation(path: Path, k: int, given: Any, size: tuple[int, int]) -> dict[str, Any]:
    """The k-th annotation with what follows from its mask."""
    if not isinstance(given, dict) or "segmentation" not in given:
        raise MaskFileError(f"{path}: annotation {k} has no segmentation; restore it or delete the annotation")
    rle = segmentation_rle(path, k, given["segmentation"], size)
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
    filled = {name: value for name, value in given.items() if value is not None}  # tools write null for what they lack
    for name in NUMBERS:
        if name in filled and not _is_number(filled[name]):
            raise MaskFileError(
                f"{path}: {name} of annotation {k} is {filled[name]!r}, expected a number; mend or remove it"
            )
    point = filled.get("point_coords") or [list(interior_point(decode(rle)))]
    # what people wrote goes over the defaults, what follows from the mask over both
    return {
        **defaults,
        **filled,
        "id": k,
        "segmentation": {"size": list(size), "counts": rle["counts"].decode()},
        "bbox": boxes_xywh([rle])[0].tolist(),
        "area": area_px,
        "point_coords": point,
    }


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are none, though Python counts them as such."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _of_polygons(path: Path, k: int, polygons: list[Any], size: tuple[int, int]) -> Any:
    if any(len(polygon) % 2 or len(polygon) < POLYGON_NUMBERS for polygon in polygons):
        raise MaskFileError(f"{path}: a polygon of annotation {k} has no three points x, y; draw it again")
    # pycocotools writes beyond its memory at corners far from the image, and at what is no number
    most_px = FAR * max(size)
    coordinates = itertools.chain.from_iterable(polygons)
    if not all(_is_number(value) and abs(value) <= most_px for value in coordinates):
        raise MaskFileError(
            f"{path}: a polygon of annotation {k} has a corner that is no number or far outside of the image of "
            f"{size[1]} x {size[0]} px; draw it again"
        )
    return coco.merge(coco.frPyObjects(polygons, *size))


def _of_run_lengths(path: Path, k: int, given: dict[str, Any], size: tuple[int, int]) -> Any:
    counts = given["counts"]
    are_lengths = all(isinstance(n, int) and n >= 0 for n in counts)
    if not are_lengths or sum(counts) != size[0] * size[1]:
        raise _unfilled(path, k)
    return coco.frPyObjects(given, *size)


def _unfilled(path: Path, k: int) -> MaskFileError:
    return MaskFileError(f"{path}: the run lengths of annotation {k} do not fill the image; restore them")


def _suppressed(given: dict[str, Any], new_numbers: dict[str, int]) -> dict[str, Any]:
    """A suppressed mask with the number that its winner has now; without one if that is gone."""
    old_number = given.get("by")
    winner = None if old_number is None else new_numbers.get(str(old_number))
    iou = None if winner is None else given.get("iou")  # of nobody there is none
    return {**given, "by": winner, "iou": iou}
