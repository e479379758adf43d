"""Masks of one image with what is known about each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hvlabel.masks.rle import Rle


@dataclass(frozen=True)
class Mask:
    """One mask.

    rle             : COCO RLE in the cube's frame
    score           : rank value in [0, 1]; what NMS and fusion sort by
    predicted_iou   : the model's own estimate (regions: persistence over scales)
    stability_score : IoU of the mask at a higher and a lower threshold (regions: persistence)
    point_xy        : prompt, px; pixel centres are whole numbers
    crop_box_xywh   : crop the mask was made in, px; None is the whole image
    frame, bands    : false-colour frame of the sequence branch and its (red, green, blue) file band indices
    votes           : branches that found this mask (labels only)
    extra           : further entries of the annotation, written as they are
    """

    rle: Rle
    score: float
    branch: str
    point_xy: tuple[float, float]
    predicted_iou: float = 1.0
    stability_score: float = 1.0
    crop_box_xywh: tuple[float, float, float, float] | None = None
    frame: int | None = None
    bands: tuple[int, int, int] | None = None
    votes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


# why a mask is not in a label. small: below fusion.min_area_px; poor: less is expected of it than fusion.min_quality;
# copy: of a better one, above fusion.iou_threshold; nested: much of a better one, or around it, above
# fusion.nested_iou; covered: fusion.coverage was reached without it
REASONS = ("small", "poor", "copy", "nested", "covered")


@dataclass(frozen=True)
class Suppressed:
    """A mask that is not in the label.

    mask_id : its position in its branch's file
    by, iou : position of the winner in the label's masks and their mask IoU; None: it lost to no mask of the label
    reason  : why it is not there, one of REASONS; "" in labels from before it was recorded
    quality : IoU with an object that is expected of it; None: nobody was asked
    """

    mask_id: int
    branch: str
    by: int | None = None
    iou: float | None = None
    reason: str = ""
    quality: float | None = None


@dataclass(frozen=True)
class MaskSet:
    """The masks of one image, best first, and (labels only) those they suppressed."""

    height_px: int
    width_px: int
    masks: tuple[Mask, ...]
    suppressed: tuple[Suppressed, ...] = ()

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def rles(self) -> list[Rle]:
        """RLE of every mask, in order."""
        return [m.rle for m in self.masks]
