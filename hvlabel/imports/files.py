"""Files of masks: COCO of many images, SA-1B of one, label images in PNG and TIFF."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hvlabel.errors import MaskFileError
from hvlabel.masks import Rle, areas, encode, segmentation_rle
from hvlabel.prompt_files import PromptFileError
from hvlabel.prompt_files.coco import stated_score
from hvlabel.prompt_files.instance_mask import png_values, tiff_values
from hvlabel.prompt_files.source import Source

PICTURES: dict[str, Callable[[Source], np.ndarray]] = {".png": png_values, ".tif": tiff_values, ".tiff": tiff_values}
SUFFIXES = (".json", *PICTURES)


class Drawn(NamedTuple):
    """One object.

    category : its class, or None
    score    : reads the score that its file states, in [0, 1]; PromptFileError for another
    """

    rle: Rle
    category: str | None
    score: Callable[[], float] = lambda: 1.0


class DrawnImage(NamedTuple):
    """The objects of one image of a file.

    names : by which the file knows the image, the most telling one first
    read  : gives the objects for an image of (height, width) px; MaskFileError or PromptFileError if they do not fit
    """

    names: tuple[str | None, ...]
    read: Callable[[int, int], list[Drawn]]


def files_of(path: Path) -> list[Path]:
    """A file, or those of a folder and of the folders below it; MaskFileError if there is none."""
    if path.is_file():
        return [path]
    below = path.rglob("*")
    readable = sorted(p for p in below if p.suffix.lower() in SUFFIXES and p.is_file())
    # beside a label lies the picture of its image, which holds no masks
    files = [p for p in readable if p.suffix == ".json" or not p.with_suffix(".json").is_file()]
    if not files:
        raise MaskFileError(f"{path}: no masks there; expected {', '.join(SUFFIXES)}")
    return files


def drawn_images(path: Path) -> Iterator[DrawnImage]:
    """Every image that a file speaks of; MaskFileError if it is damaged or of another kind."""
    suffix = path.suffix.lower()
    if suffix in PICTURES:
        name = f"{path.parent.name}/{path.stem}"  # as DATASET/IMAGE.png, the only name that a picture has
        yield DrawnImage((name,), partial(_of_values, path))
        return
    if suffix != ".json":
        raise MaskFileError(f"{path}: no masks that are known here; expected {', '.join(SUFFIXES)}")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise MaskFileError(f"{path}: not readable JSON ({str(error)[:80]}); write it again") from error
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        if isinstance(content.get("images"), list):
            yield from _coco(path, content)
            return
        if isinstance(content.get("image"), dict):
            image = content["image"]
            names = (f"{path.parent.name}/{path.stem}", image.get("name"), image.get("file_name"))
            read = _reader(path, image, content["annotations"], {})  # SA-1B has no categories
            yield DrawnImage(_texts(names), read)
            return
    raise MaskFileError(f"{path}: neither COCO (images, annotations) nor SA-1B (image, annotations)")


def _coco(path: Path, content: dict[str, Any]) -> Iterator[DrawnImage]:
    try:
        listed = content.get("categories", [])
        categories = {of["id"]: str(of["name"]) for of in listed}
        # COCO lists annotations apart from images, in any order
        by_image: dict[Any, list[Any]] = defaultdict(list)
        for annotation in content["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        images = [(by_image[image["id"]], image) for image in content["images"]]
    except (TypeError, KeyError) as error:
        raise MaskFileError(f"{path}: damaged COCO ({type(error).__name__}: {error}); write it again") from error
    for drawn, image in images:
        dataset = image.get("dataset")
        name = image.get("name")
        own = f"{dataset}/{name}" if dataset and name else None  # as our exports say it
        names = _texts((own, image.get("file_name"), name))
        yield DrawnImage(names, _reader(path, image, drawn, categories))


def _reader(
    path: Path, image: dict[str, Any], annotations: list[Any], categories: dict[Any, str]
) -> Callable[[int, int], list[Drawn]]:
    """What gives an image's objects for its height and width; MaskFileError if they were drawn on another size."""

    def read(height: int, width: int) -> list[Drawn]:
        drawn_on = image.get("height", height), image.get("width", width)
        if drawn_on != (height, width):
            raise MaskFileError(
                f"{path}: drawn on an image of {drawn_on[1]} x {drawn_on[0]} px, this one has {width} x {height}; "
                "scale the masks to it"
            )
        return _objects(path, annotations, categories, height, width)

    return read


def _objects(path: Path, annotations: list[Any], categories: dict[Any, str], height: int, width: int) -> list[Drawn]:
    """The objects of some annotations; crowds and boxes without a mask are none."""
    objects = []
    source = Source(path, height, width, ())
    for k, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            raise MaskFileError(f"{path}: annotation {k} is no mapping; write it again")
        # a crowd is around many objects, a box alone shows no outline
        if annotation.get("iscrowd") == 1 or not annotation.get("segmentation"):
            continue
        rle = segmentation_rle(path, k, annotation["segmentation"], (height, width))
        if int(areas([rle])[0]):
            category = annotation.get("category_id")
            name = categories.get(category) if isinstance(category, int | str) else None
            # read only when it counts: a truth may state no score, or a wrong one
            score = partial(stated_score, source, f"annotations[{k}]", annotation)
            objects.append(Drawn(rle, name, score))
    if annotations and not objects:
        raise MaskFileError(
            f"{path}: {len(annotations)} annotations and no mask among them; boxes and points are read by the rule "
            "`prompts` of a data set (docs/FORMATS.md#prompts)"
        )
    return objects


def _of_values(path: Path, height: int, width: int) -> list[Drawn]:
    """Every non-zero value of a label image as an object."""
    read_values = PICTURES[path.suffix.lower()]
    values = read_values(Source(path, height, width, ()))  # (H, W), the number of an object at its pixels
    if values.shape != (height, width) or values.dtype.kind != "u":
        raise PromptFileError(
            f"{path}: {values.dtype} of {values.shape}, expected one grey channel of {height} x {width}"
        )
    numbers = np.unique(values[values > 0]).tolist()
    return [Drawn(encode(values == number), None) for number in numbers]


def _texts(names: tuple[Any, ...]) -> tuple[str | None, ...]:
    """Names that are texts."""
    return tuple(name if isinstance(name, str) else None for name in names)
