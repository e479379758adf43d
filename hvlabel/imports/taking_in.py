"""Take masks into a results folder: a sealed file per image; what is wrong is named, the rest taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvlabel.cache.index import require_results
from hvlabel.cache.publish import publish_bytes
from hvlabel.cube import open_cube
from hvlabel.errors import HvError
from hvlabel.imports.files import Drawn, drawn_images, files_of
from hvlabel.imports.names import Names
from hvlabel.layout import Layout
from hvlabel.manifest import Image, read_manifest
from hvlabel.masks import Mask, MaskSet, decode, dump_masks, interior_point
from hvlabel.models.weights import file_sha256


@dataclass
class Taken:
    """What was taken in.

    failed    : name of a file or image -> why it was not
    sentences : what to do next
    """

    n_images: int = 0
    n_masks: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)


def import_truth(layout: Layout, path: Path | str, dataset: str | None = None) -> Taken:
    """Masks of files as ground truth: truth/DATASET/IMAGE.json, which `hvlabel evaluate` reads.

    dataset : whose images are meant; None: those of all data sets
    An older ground truth of an image is replaced.
    """

    def place(image: Image) -> Path:
        return layout.own_truth(image.dataset, image.image_id)

    taken = _take(layout, Path(path), dataset, "truth", place)
    if taken.n_images:
        taken.sentences.append(f"{layout.root / 'truth'}: `hvlabel evaluate` scores against it")
    return taken


def import_prompts(layout: Layout, path: Path | str, dataset: str | None = None) -> Taken:
    """Masks of files as marks for the branch `prompts`: prompts/DATASET/STEM.json, and the line that names them."""

    def place(image: Image) -> Path:
        return layout.drawn(image.dataset, Path(image.raw).stem)

    taken = _take(layout, Path(path), dataset, "person", place)
    for name in dict.fromkeys(image.dataset for image in taken.images):
        rule = layout.drawn(name, "{stem}").absolute()
        taken.sentences += [
            f"datasets.{name} of your configuration needs two lines; the branch prompts then runs with the next run:",
            f"  prompts: {{path: '{rule}', optional: true}}",
            "  allow_outside: true",
        ]
    if taken.n_images:
        taken.sentences.append("SAM draws each mask anew; `prompts: {backend: drawn}` takes them as they are")
    return taken


def _take(layout: Layout, path: Path, dataset: str | None, stage: str, place: Callable[[Image], Path]) -> Taken:
    """Write the masks of every image that some files speak of. place: where an image's go."""
    require_results(layout)
    names = Names(read_manifest(layout.manifest), dataset)
    taken = Taken()
    written: dict[Path, Path] = {}  # target -> the file that it came from
    for file in files_of(path):
        try:
            for drawn in drawn_images(file):
                try:
                    image = names.image_of(*drawn.names)
                    target = place(image)
                    # two files of one image: which one is meant is for people to say
                    if target in written:
                        taken.failed[f"{file}"] = f"{image.dataset}/{image.image_id} is in {written[target]} already"
                        continue
                    n_masks = _write(layout, image, drawn.read, target, stage, file)
                except HvError as error:
                    shown = next((name for name in drawn.names if name), "an image without a name")
                    taken.failed[f"{file}, {shown}"] = str(error)
                    continue
                written[target] = file
                taken.images.append(image)
                taken.n_images += 1
                taken.n_masks += n_masks
        except HvError as error:
            taken.failed[str(file)] = str(error)
    return taken


def _write(
    layout: Layout,
    image: Image,
    read: Callable[[int, int], list[Drawn]],
    target: Path,
    stage: str,
    file: Path,
) -> int:
    """Publish one image's masks, sealed; returns their number."""
    cube = open_cube(layout.cube(image.dataset, image.image_id))
    # the cube is the frame: what is of another size is of another image
    objects = read(cube.height_px, cube.width_px)
    masks = [_mask(drawn, stage) for drawn in objects]
    provenance: dict[str, Any] = {
        "stage": stage,
        "imported_from": {"path": str(file), "sha256": file_sha256(file)},
        "cube_key": cube.attributes.get("key"),
    }
    if "georeference" in cube.attributes:
        provenance["georeference"] = cube.attributes["georeference"]
    mask_set = MaskSet(cube.height_px, cube.width_px, tuple(masks))
    content = dump_masks(mask_set, image.image_id, provenance, dataset=image.dataset)
    publish_bytes(target, content)
    return len(masks)


def _mask(drawn: Drawn, branch: str) -> Mask:
    # nobody knows whether only the spectrum shows it; scores of spectral-only objects leave it out
    extra: dict[str, Any] = {"spectral_only": False}
    if drawn.category is not None:
        extra["name"] = drawn.category
    # a truth is true, whoever was how sure of it
    score = 1.0 if branch == "truth" else drawn.score()
    point_xy = interior_point(decode(drawn.rle))
    return Mask(drawn.rle, score=score, branch=branch, point_xy=point_xy, extra=extra)
