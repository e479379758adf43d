"""COCO detection files of many images, and SA-1B files of one (masks/sa1b.py writes those)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from hvlabel.masks import segmentation_rle
from hvlabel.prompt_files.json_values import id_or_none, list_of, mapping_of, number_of, numbers_of, text_or_none
from hvlabel.prompt_files.prompt import Box, Drawn, ObjectPrompt, Stated
from hvlabel.prompt_files.segmentation import tight_box
from hvlabel.prompt_files.source import Source, shown


def read_coco(source: Source, document: dict[str, object]) -> Iterator[Stated]:
    """The annotations of this image. Crowds and keypoints are no prompts."""
    images = _images(source, document)
    annotations = list_of(source, "annotations", document["annotations"])
    if not images and not annotations:
        return  # an empty file marks nothing, in no image
    if not images:
        raise source.error(f"{len(annotations)} annotations but no image; list the image that they belong to")
    ids = [id_or_none(image.get("id")) for image in images]
    names = [_file_name(source, k, image) for k, image in enumerate(images)]
    chosen = source.which_image(names)
    image, chosen_id = images[chosen], ids[chosen]
    _require_same_size(source, image)
    if chosen_id is None or ids.count(chosen_id) != 1:  # its annotations would be another's too
        raise source.error(
            f"images[{chosen}]: the id {shown(image.get('id'))} is no id or several images have it; give it its own"
        )
    categories = _categories(source, document)
    known_ids = set(ids)  # a list would be searched for each annotation
    for k, item in enumerate(annotations):
        annotation = mapping_of(source, f"annotations[{k}]", item)
        image_id = id_or_none(annotation.get("image_id"))
        if image_id is None or image_id not in known_ids:  # of any image: a wrong id may be meant for this one
            raise source.error(
                f"annotations[{k}]: no image has its image_id {shown(annotation.get('image_id'))}; "
                "add the image or correct the id"
            )
        if image_id == chosen_id and not _is_crowd(annotation):
            yield _stated(source, k, annotation, categories)


def read_sa1b(source: Source, document: dict[str, object]) -> Iterator[Stated]:
    """All annotations of a file of one image."""
    image = document.get("image")
    if isinstance(image, dict):
        _require_same_size(source, image)
    categories = _categories(source, document)
    for k, item in enumerate(list_of(source, "annotations", document["annotations"])):
        annotation = mapping_of(source, f"annotations[{k}]", item)
        if not _is_crowd(annotation):
            yield _stated(source, k, annotation, categories)


def stated_score(source: Source, where: str, annotation: dict[str, object]) -> float:
    """The score that an annotation states, else SAM's estimate of its IoU, else 1."""
    if annotation.get("score") is not None:
        score = number_of(source, f"{where}.score", annotation["score"])
        if not 0 <= score <= 1:
            raise source.error(
                f"{where}: the score {score:.10g} is outside [0, 1]; correct it, or leave it out: it counts 1 then"
            )
        return score
    if annotation.get("predicted_iou") is not None:
        estimate = number_of(source, f"{where}.predicted_iou", annotation["predicted_iou"])
        return min(max(estimate, 0.0), 1.0)  # a network's estimate may lie a little beyond
    return 1.0


def _images(source: Source, document: dict[str, object]) -> list[dict[str, object]]:
    """The document's images as mappings."""
    images = list_of(source, "images", document["images"])
    return [mapping_of(source, f"images[{k}]", image) for k, image in enumerate(images)]


def _file_name(source: Source, k: int, image: dict[str, object]) -> str:
    """The name of an image; its id where it has none."""
    name = text_or_none(source, f"images[{k}].file_name", image.get("file_name"))
    return name or id_or_none(image.get("id")) or ""


def _require_same_size(source: Source, image: dict[str, object]) -> None:
    width = number_of(source, "image width", image.get("width", source.width_px))
    height = number_of(source, "image height", image.get("height", source.height_px))
    source.require_size(width, height)


def _categories(source: Source, document: dict[str, object]) -> dict[str, str | None]:
    """Names by id."""
    names = {}
    for k, item in enumerate(list_of(source, "categories", document.get("categories", []))):
        category = mapping_of(source, f"categories[{k}]", item)
        category_id = id_or_none(category.get("id"))
        if category_id is None:
            raise source.error(f"categories[{k}]: the id {shown(category.get('id'))} is no whole number; correct it")
        names[category_id] = text_or_none(source, f"categories[{k}].name", category.get("name"))
    return names


def _is_crowd(annotation: dict[str, object]) -> bool:
    """Whether a box is around many objects, so that it asks for none of them."""
    return annotation.get("iscrowd") == 1


def _stated(source: Source, k: int, annotation: dict[str, object], categories: dict[str, str | None]) -> Stated:
    """An annotation as a prompt; the name of its category, or its category's id where that has no name."""
    where = f"annotations[{k}] (id {shown(annotation.get('id'))})"
    category_id = id_or_none(annotation.get("category_id"))
    name = None
    if category_id is not None:
        name = categories.get(category_id) or category_id
    object_id = id_or_none(annotation.get("id")) or str(k)
    prompt = ObjectPrompt(_box(source, where, annotation), name=name, object_id=object_id)
    has_mask = annotation.get("segmentation") not in (None, [])
    return Stated(where, prompt, partial(_drawn, source, k, annotation) if has_mask else None)


def _drawn(source: Source, k: int, annotation: dict[str, object]) -> Drawn:
    """The mask of an annotation, with the class that files of this project say at it."""
    size = (source.height_px, source.width_px)
    rle = segmentation_rle(source.path, k, annotation["segmentation"], size)
    name = annotation.get("name")
    score = stated_score(source, f"annotations[{k}]", annotation)
    return Drawn(rle, score, name if isinstance(name, str) else None)


def _box(source: Source, where: str, annotation: dict[str, object]) -> Box:
    """The box that the annotation states, or else the tight one of its mask."""
    if annotation.get("bbox") not in (None, []):  # tools write an empty list for none
        x, y, width, height = numbers_of(source, where, annotation["bbox"], "4 numbers x, y, width, height", n=(4,))
        return x, y, x + width, y + height
    if annotation.get("segmentation") not in (None, []):
        return tight_box(source, where, annotation["segmentation"])
    raise source.error(f"{where}: neither a bbox nor a segmentation; expected one of them, add it or take it away")
