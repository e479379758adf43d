"""Labels of a results folder, one image at a time, as formats are given them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2

from hvlabel.cube import open_cube
from hvlabel.errors import HvError, ResultsError
from hvlabel.exports.image import ExportImage, quality_of
from hvlabel.inspect.materials import Materials, materials_of
from hvlabel.layout import Layout
from hvlabel.masks import masks_of, read_document

CategoryBy = Literal["object", "material"]


@dataclass
class Source:
    """What is exported.

    branch      : its masks instead of the labels
    min_quality : masks of which less is expected are left out
    category    : `object`: all masks are of one category; `material`: of their material group
    failed      : one sentence per image that could not be read; filled by a walk
    """

    layout: Layout
    branch: str | None = None
    min_quality: float = 0.0
    category: CategoryBy = "object"
    failed: dict[str, str] = field(default_factory=dict)

    def categories(self) -> list[str]:
        """Names of all categories."""
        if self.category == "object":
            return ["object"]
        return [name for materials in self._materials().values() for name in materials.names()]

    def images(self, *, pictures: bool) -> Iterator[ExportImage]:
        """Every readable image, by data set and name; what is not is named in `failed`.

        pictures : whether the format holds them
        ResultsError if there is nothing at all.
        """
        paths = self._paths()
        category_of = self._category_of()
        # an image that fails keeps its number, so that numbers are the same in every format
        for number, path in enumerate(paths, start=1):
            dataset, name = path.parent.name, path.stem
            try:
                document = read_document(path)
                picture = self._picture(dataset, name) if pictures else b""
                categories = category_of(dataset, name, document)
                image = self._image(number, path, document, categories, picture)
            except HvError as error:
                self.failed[f"{dataset}/{name}"] = str(error)
                continue
            yield image

    def _picture(self, dataset: str, name: str) -> bytes:
        """The picture beside the label, or that of the cube where there is none; CubeError if there is neither."""
        beside = self.layout.label(dataset, name).with_suffix(".png")
        if beside.is_file():
            return beside.read_bytes()
        rgb = open_cube(self.layout.cube(dataset, name)).rgb
        bgr = rgb[:, :, ::-1]  # OpenCV writes blue first
        _, content = cv2.imencode(".png", bgr)
        return bytes(content.tobytes())

    def _paths(self) -> list[Path]:
        folder = self.layout.labels
        if self.branch is not None:
            folder = self.layout.masks(self.branch, "d", "i").parents[1]  # of any image: only its folder counts
        paths = sorted(folder.glob("*/[!.]*.json"))
        if not paths:
            raise ResultsError(f"{folder}: no masks to export; run `snakemake pseudolabels` first, or check --branch")
        return paths

    def _image(
        self, number: int, path: Path, document: dict[str, Any], categories: list[int], picture: bytes
    ) -> ExportImage:
        dataset, name = path.parent.name, path.stem
        masks = masks_of(document)
        # numbers stay those of the label: people look a mask up by them
        kept = [k for k, mask in enumerate(masks.masks) if quality_of(mask) >= self.min_quality]
        kept_masks = tuple(masks.masks[k] for k in kept)
        return ExportImage(
            number=number,
            dataset=dataset,
            name=name,
            masks=replace(masks, masks=kept_masks, suppressed=()),
            categories=tuple(categories[k] for k in kept),
            numbers=tuple(kept),
            picture=picture,
            georeference=document["provenance"].get("georeference"),
        )

    def _materials(self) -> dict[str, Materials]:
        """Material groups of every data set that has labels."""
        datasets = dict.fromkeys(path.parent.name for path in self._paths())
        return {dataset: materials_of(self.layout, dataset) for dataset in datasets}

    def _category_of(self) -> Callable[[str, str, dict[str, Any]], list[int]]:
        """What gives the category of every mask of a document of a data set and an image."""
        if self.category == "object":
            return lambda _dataset, _name, document: [0] * len(document["annotations"])
        known = self._materials()
        first = {}
        n_before = 0
        for dataset, materials in known.items():  # groups of two data sets have nothing in common
            first[dataset] = n_before
            n_before += len(materials.names())

        def of_materials(dataset: str, name: str, document: dict[str, Any]) -> list[int]:
            groups = known[dataset].groups_of(name, document)  # counted from 0 in each data set
            return [first[dataset] + group for group in groups]

        return of_materials
