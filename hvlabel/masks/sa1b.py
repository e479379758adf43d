"""SA-1B JSON files: masks that SAM tools, pycocotools and Datumaro read, with a provenance block and a seal."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hvlabel.errors import MaskFileError
from hvlabel.masks.maskset import Mask, MaskSet, Suppressed
from hvlabel.masks.rle import areas, boxes_xywh

SEAL = "content_sha256"
# of an annotation; what else there is is a mask's extra
OWN_KEYS = frozenset(
    {
        "id",
        "segmentation",
        "bbox",
        "area",
        "predicted_iou",
        "stability_score",
        "point_coords",
        "crop_box",
        "score",
        "branch",
        "frame",
        "bands",
        "votes",
    }
)
ID_BITS = 53  # whole numbers up to 2**53 are exact in every JSON reader, also where all numbers are floats
UNSEALED = (SEAL, "seconds", "batches")  # how long it took, and in what portions, is no part of the content


def dump_masks(
    masks: MaskSet,
    name: str,
    provenance: dict[str, Any],
    file_name: str | None = None,
    dataset: str | None = None,
) -> bytes:
    """Content of a mask file; arguments as of `mask_document`."""
    return to_bytes(mask_document(masks, name, provenance, file_name, dataset))


def mask_document(
    masks: MaskSet,
    name: str,
    provenance: dict[str, Any],
    file_name: str | None = None,
    dataset: str | None = None,
) -> dict[str, Any]:
    """What a mask file holds, sealed.

    name       : of the image
    provenance : what the masks were made from; a seal (sha256 of everything else in the file) is added
    file_name  : the picture beside the file that the masks belong to
    dataset    : of the image, where it is known: images of several data sets may have one name
    """
    image = {
        "image_id": numeric_id(name, dataset),
        "name": name,
        "width": masks.width_px,
        "height": masks.height_px,
        "file_name": file_name or f"{name}.png",
    }
    boxes = boxes_xywh(masks.rles)
    area_px = areas(masks.rles)
    whole_image_xywh = (0, 0, masks.width_px, masks.height_px)
    annotations = []
    for k, mask in enumerate(masks.masks):
        crop_xywh = mask.crop_box_xywh or whole_image_xywh
        box_xywh = boxes[k].tolist()  # JSON takes no NumPy numbers
        annotations.append(_annotation(k, mask, box_xywh, int(area_px[k]), crop_xywh))
    suppressed = [_suppression(lost) for lost in masks.suppressed]
    document = {"image": image, "annotations": annotations, "suppressed": suppressed, "provenance": provenance}
    return sealed(document)


def numeric_id(name: str, dataset: str | None = None) -> int:
    """The number of an image in [0, 2**53): the same wherever it is computed, and practically no other image's.

    Tools of SA-1B refuse ids that are no whole numbers. Among a million images two share one with probability 6e-5.
    """
    full_name = name if dataset is None else f"{dataset}/{name}"
    encoded = full_name.encode(errors="surrogatepass")  # file names need not be Unicode
    digest = hashlib.sha256(encoded).digest()
    first_64_bits = int.from_bytes(digest[:8], "big")
    return first_64_bits >> (64 - ID_BITS)


def image_name(document: dict[str, Any]) -> str:
    """The name of a parsed file's image; older files have it as their `image_id`."""
    image = document["image"]
    return str(image.get("name", image.get("image_id")))


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a seal in its provenance, which must hold none yet."""
    provenance = {**document["provenance"], SEAL: _seal(document)}
    return {**document, "provenance": provenance}


def is_sealed(document: dict[str, Any]) -> bool:
    """Whether a document is as it was when it was sealed."""
    return bool(document["provenance"].get(SEAL) == _seal(document))


def to_bytes(document: dict[str, Any]) -> bytes:
    """Content of a file: one annotation per line, small, and still readable and diffable."""
    parts = []
    for name, value in document.items():
        content = _lines(value) if name in ("annotations", "suppressed") else json.dumps(value)
        parts.append(f'"{name}": {content}')
    text = "{" + ",\n".join(parts) + "}\n"
    return text.encode()


def read_document(path: Path | str) -> dict[str, Any]:
    """The parsed file with its seal checked; MaskFileError if it is missing, damaged or something else."""
    path = Path(path)
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise MaskFileError(
            f"{path}: cannot read the mask file ({error.strerror}); run the pipeline again to make it"
        ) from error
    except ValueError as error:
        raise MaskFileError(f"{path}: not JSON ({str(error)[:80]}); delete it and run again") from error
    if not is_mask_document(document):
        raise MaskFileError(
            f"{path}: not a mask file of this project (no image, annotations, provenance); see docs/FORMATS.md"
        )
    if not is_sealed(document):
        raise MaskFileError(
            f"{path}: the content does not match its seal; if you edited it, `hvlabel accept {path}` keeps the edit, "
            "else it is damaged: delete it and run again"
        )
    return document


def is_mask_document(document: Any) -> bool:
    """Whether parsed JSON looks like a mask file of this project."""
    return isinstance(document, dict) and {"image", "annotations", "provenance"} <= document.keys()


def read_masks(path: Path | str) -> MaskSet:
    """The masks of a file, in its order."""
    return masks_of(read_document(path))


def masks_of(document: dict[str, Any]) -> MaskSet:
    """The masks of a parsed file, in its order."""
    image = document["image"]
    masks = tuple(_mask(annotation) for annotation in document["annotations"])
    suppressed = tuple(_suppressed(lost) for lost in document["suppressed"])
    return MaskSet(image["height"], image["width"], masks, suppressed)


def _annotation(
    mask_id: int, mask: Mask, box_xywh: list[float], area_px: int, crop_xywh: tuple[float, ...]
) -> dict[str, Any]:
    """An entry of `annotations`; the keys of SA-1B first, then our own."""
    return {
        "id": mask_id,
        "segmentation": {"size": mask.rle["size"], "counts": mask.rle["counts"].decode()},
        "bbox": box_xywh,
        "area": area_px,
        "predicted_iou": round(mask.predicted_iou, 6),
        "stability_score": round(mask.stability_score, 6),
        "point_coords": [list(mask.point_xy)],
        "crop_box": list(crop_xywh),
        "score": round(mask.score, 6),
        "branch": mask.branch,
        "frame": mask.frame,
        "bands": list(mask.bands) if mask.bands else None,
        "votes": list(mask.votes),
        **mask.extra,
    }


def _suppression(lost: Suppressed) -> dict[str, Any]:
    """An entry of `suppressed`."""
    iou = None if lost.iou is None else round(lost.iou, 6)
    quality = None if lost.quality is None else round(lost.quality, 4)
    return {
        "id": lost.mask_id,
        "branch": lost.branch,
        "by": lost.by,
        "iou": iou,
        "reason": lost.reason,
        "quality": quality,
    }


def _suppressed(entry: dict[str, Any]) -> Suppressed:
    """The mask of an entry; files of older versions have neither reason nor quality."""
    return Suppressed(
        mask_id=entry["id"],
        branch=entry["branch"],
        by=entry["by"],
        iou=entry["iou"],
        reason=entry.get("reason", ""),
        quality=entry.get("quality"),
    )


def _mask(annotation: dict[str, Any]) -> Mask:
    """The mask of an entry of `annotations`."""
    segmentation = annotation["segmentation"]
    bands = annotation["bands"]
    x, y = annotation["point_coords"][0][:2]
    return Mask(
        rle={"size": segmentation["size"], "counts": segmentation["counts"].encode()},
        score=annotation["score"],
        branch=annotation["branch"],
        point_xy=(x, y),
        predicted_iou=annotation["predicted_iou"],
        stability_score=annotation["stability_score"],
        crop_box_xywh=tuple(annotation["crop_box"]),
        frame=annotation["frame"],
        bands=tuple(bands) if bands else None,
        votes=tuple(annotation["votes"]),
        extra={name: value for name, value in annotation.items() if name not in OWN_KEYS},
    )


def _seal(document: dict[str, Any]) -> str:
    """sha256 of the document without its seal and its seconds, as canonical JSON."""
    provenance = {name: value for name, value in document["provenance"].items() if name not in UNSEALED}
    unsealed = {**document, "provenance": provenance}
    content = json.dumps(unsealed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _lines(items: list[Any]) -> str:
    """A JSON list with one item per line."""
    lines = ["\n" + json.dumps(item) for item in items]
    return "[" + ",".join(lines) + "]"
