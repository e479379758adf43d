"""Average precision of class-agnostic masks as COCO defines it, by COCO's own evaluation."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hvlabel.masks import Mask, MaskSet, areas
from hvlabel.masks.rle import boxes_xywh

OBJECT = 1  # the one category
AREAS_PX2 = [[0, 1e10]]  # objects of every size count alike


def average_precision(pairs: Sequence[tuple[MaskSet, MaskSet]], n_proposals: int) -> tuple[float, float]:
    """AP over IoU .50:.05:.95, and at .50, each in [0, 1]; nan without objects.

    pairs : (masks, truth) of each image; of the masks the n_proposals of the highest scores count
    A second mask on an object counts as wrong, which recall and the share of right masks do not see.
    """
    truth: list[dict[str, object]] = []
    masks: list[dict[str, object]] = []
    for k, (masks_of_image, truth_of_image) in enumerate(pairs):
        masks += _annotations(k, masks_of_image)
        truth += _annotations(k, truth_of_image)
    if not truth:
        return float("nan"), float("nan")
    if not masks:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # it tells its seconds
        sizes = [(of.height_px, of.width_px) for _, of in pairs]
        evaluation = COCOeval(_coco(truth, sizes), _coco(masks, sizes), "segm")
        evaluation.params.maxDets = [n_proposals]
        evaluation.params.areaRng = AREAS_PX2
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    # of the one category, the one range of areas and the one number of proposals
    precision = evaluation.eval["precision"][:, :, 0, 0, 0]  # (thresholds, recalls)
    return float(precision.mean()), float(precision[0].mean())


def _annotations(image: int, masks: MaskSet) -> list[dict[str, object]]:
    """One of each mask of an image."""
    areas_px = areas(masks.rles).tolist()
    return [_annotation(image, mask, area_px) for mask, area_px in zip(masks.masks, areas_px, strict=True)]


def _annotation(image: int, mask: Mask, area_px: int) -> dict[str, object]:
    box = boxes_xywh([mask.rle])[0].tolist()
    return {
        "image_id": image,
        "category_id": OBJECT,
        "segmentation": mask.rle,
        "area": area_px,
        "bbox": box,
        "iscrowd": 0,
        "score": mask.score,
    }


def _coco(annotations: list[dict[str, object]], sizes_px: Sequence[tuple[int, int]]) -> COCO:
    """Annotations as pycocotools wants them. Their ids start at 1: to COCOeval an object 0 is one that is not there.

    sizes_px : height and width of each image
    """
    coco = COCO()
    coco.dataset = {
        "images": [{"id": k, "height": height, "width": width} for k, (height, width) in enumerate(sizes_px)],
        "categories": [{"id": OBJECT, "name": "object"}],
        "annotations": [{"id": k, **annotation} for k, annotation in enumerate(annotations, start=1)],
    }
    coco.createIndex()
    return coco
