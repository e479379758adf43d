"""Masks as COCO run-length codes: sets, exact IoU, NMS, SA-1B JSON files."""

from hvlabel.masks.edited import corrected, is_corrected, read_edited, segmentation_rle
from hvlabel.masks.maskset import Mask, MaskSet, Suppressed
from hvlabel.masks.nms import best_masks, mask_nms, nested_copies, rank, ranked
from hvlabel.masks.rle import (
    Rle,
    areas,
    boxes_xyxy,
    decode,
    encode,
    encode_stack,
    interior_point,
    iou_matrix,
    union,
)
from hvlabel.masks.sa1b import (
    dump_masks,
    image_name,
    is_mask_document,
    mask_document,
    masks_of,
    numeric_id,
    read_document,
    read_masks,
    to_bytes,
)
from hvlabel.masks.valid import on_valid

__all__ = [
    "Mask",
    "MaskSet",
    "Rle",
    "Suppressed",
    "areas",
    "best_masks",
    "boxes_xyxy",
    "corrected",
    "decode",
    "dump_masks",
    "encode",
    "encode_stack",
    "image_name",
    "interior_point",
    "iou_matrix",
    "is_corrected",
    "is_mask_document",
    "mask_document",
    "mask_nms",
    "masks_of",
    "nested_copies",
    "numeric_id",
    "on_valid",
    "rank",
    "ranked",
    "read_document",
    "read_edited",
    "read_masks",
    "segmentation_rle",
    "to_bytes",
    "union",
]
