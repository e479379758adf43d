"""Two labels, two runs, or two settings of the fusion: which masks both have, and which settings differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import open_cube
from hvlabel.errors import ConfigError
from hvlabel.inspect.evaluate import markdown
from hvlabel.layout import Layout
from hvlabel.masks import MaskSet, iou_matrix, masks_of, read_document
from hvlabel.stages.fuse import fusion_entry

SAME_IOU = 0.5  # from which on two masks are of one object
BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)  # edges of the histogram; the last bin holds 1 too
SHOWN_IMAGES = 10
COMPARED = ("settings", "branches", "quality", "hvlabel_version")  # entries of a label's provenance
# of what a label says about a branch: the rest follows from the image
OF_BRANCH = ("backend", "recipe", "weights_sha256", "fallback")


class ImageDifference(NamedTuple):
    """One image of both. ious: (n_kept,) of pairs of masks, one from each."""

    name: str
    ious: np.ndarray
    n_lost: int
    n_new: int

    @property
    def n_changed(self) -> int:
        """Masks without a counterpart, of either."""
        return self.n_lost + self.n_new


@dataclass
class Comparison:
    """What two sets of labels share.

    only_first, only_second : images that the other one lacks
    settings                : name -> values that differ
    """

    first: str
    second: str
    images: list[ImageDifference] = field(default_factory=list)
    only_first: list[str] = field(default_factory=list)
    only_second: list[str] = field(default_factory=list)
    settings: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def histogram(self) -> np.ndarray:
        """(len(BINS) - 1,) how many kept masks have which IoU with their counterpart."""
        of_images = (image.ious for image in self.images)
        ious = np.concatenate([np.zeros(0), *of_images])  # of no images too
        edges = np.array([*BINS[:-1], 1.0 + 1e-9])
        counts, _ = np.histogram(ious, bins=edges)
        return counts

    def text(self) -> str:
        """Sentences and tables for a terminal."""
        n_kept = sum(len(image.ious) for image in self.images)
        n_lost = sum(image.n_lost for image in self.images)
        n_new = sum(image.n_new for image in self.images)
        lines = [f"A: {self.first}", f"B: {self.second}"]
        lines.append(f"{len(self.images)} images in both: {n_kept} masks kept, {n_lost} only in A, {n_new} only in B")
        for name, images in (("A", self.only_first), ("B", self.only_second)):
            if images:
                lines.append(f"{len(images)} images only in {name}, e.g. {images[0]}")
        bins = [f"{low:g}-{high:g}" for low, high in pairwise(BINS)]
        counts = [str(n) for n in self.histogram()]
        lines += ["", "IoU of the kept masks:", "", markdown([bins, counts])]
        most_changed_first = sorted(self.images, key=lambda image: -image.n_changed)
        rows = []
        for image in most_changed_first[:SHOWN_IMAGES]:
            if image.n_changed:
                rows.append([image.name, str(len(image.ious)), str(image.n_lost), str(image.n_new)])
        if rows and len(self.images) > 1:
            lines += ["", markdown([["image", "kept", "only in A", "only in B"], *rows])]
        differing = [[name, str(first), str(second)] for name, (first, second) in sorted(self.settings.items())]
        table = markdown([["setting", "A", "B"], *differing]) if differing else "no setting differs"
        return "\n".join([*lines, "", table])


def compare_labels(first: Path | str, second: Path | str) -> Comparison:
    """Two label files, or the labels of two results folders; ConfigError for one of each."""
    first, second = Path(first), Path(second)
    if first.is_dir() != second.is_dir():
        raise ConfigError(f"{first} and {second}: a folder and a file; name two labels, or two results folders")
    ours = _labels(first)
    theirs = _labels(second)
    both = [name for name in ours if name in theirs]
    comparison = Comparison(str(first), str(second))
    comparison.only_first = [name for name in ours if name not in theirs]
    comparison.only_second = [name for name in theirs if name not in ours]
    for name in both:
        one = read_document(ours[name])
        other = read_document(theirs[name])
        comparison.images.append(difference(name, masks_of(one), masks_of(other)))
        if name == both[0]:  # all images of a run are made in one way
            comparison.settings = _differing(_compared(one), _compared(other))
    return comparison


def compare_settings(thing: Path | str, first: FusionSettings, second: FusionSettings) -> Comparison:
    """Two settings of the fusion over the masks of one label, or of all labels of a results folder."""
    thing = Path(thing)
    layout = _layout_of(thing)
    comparison = Comparison(f"{thing}, the first settings", f"{thing}, the second settings")
    for name, path in _labels(thing).items():
        dataset, image_id = path.parent.name, path.stem
        made_from = read_document(path)["provenance"].get("branches", {})
        cube = open_cube(layout.cube(dataset, image_id))
        labels = []
        for settings in (first, second):
            # branches that the run did not make cannot be fused
            chosen = [branch for branch in settings.branches or made_from if branch in made_from]
            if not chosen:
                named = ", ".join(settings.branches or ())
                raise ConfigError(f"{path}: none of fusion.branches {named} was made; there are {', '.join(made_from)}")
            documents = [read_document(layout.masks(branch, dataset, image_id)) for branch in chosen]
            labels.append(fusion_entry(documents, settings, cube).fused())
        comparison.images.append(difference(f"{dataset}/{name.split('/')[-1]}", *labels))
    as_json = [settings.model_dump(mode="json") for settings in (first, second)]
    comparison.settings = _differing(*as_json)
    return comparison


def difference(name: str, first: MaskSet, second: MaskSet) -> ImageDifference:
    """Masks of one image in pairs, so that the sum of their IoUs is largest; below SAME_IOU two are no pair.

    ConfigError if the images have different sizes.
    """
    from scipy.optimize import linear_sum_assignment  # takes a while, which other verbs need not wait for

    first_hw = (first.height_px, first.width_px)
    second_hw = (second.height_px, second.width_px)
    if first_hw != second_hw:
        raise ConfigError(f"{name}: of {first_hw} and {second_hw} px (height, width); compare labels of one image")
    overlap = iou_matrix(first.rles, second.rles)  # (first, second)
    # below the threshold a pair is worth nothing, so it takes no partner from a true one
    candidates = np.where(overlap >= SAME_IOU, overlap, 0.0)
    pairs = linear_sum_assignment(candidates, maximize=True)
    ious = overlap[pairs]
    kept = ious[ious >= SAME_IOU]  # the assignment also pairs masks that are worth nothing
    n_lost = len(first) - len(kept)
    n_new = len(second) - len(kept)
    return ImageDifference(name, kept, n_lost, n_new)


def _layout_of(thing: Path) -> Layout:
    """The results folder, or that of a label; ConfigError if a label lies in none: its masks are not at hand."""
    if thing.is_dir():
        return Layout(thing)
    path = thing.absolute()
    layout = Layout(path.parent.parent.parent)
    if layout.label(path.parent.name, path.stem) != path:
        raise ConfigError(f"{thing}: not in a results folder (labels/DATASET/IMAGE.json), so its masks are not at hand")
    return layout


def _labels(thing: Path) -> dict[str, Path]:
    """Name -> label of a results folder; of a single file, whatever its name, the only one."""
    if not thing.is_dir():
        return {"label": thing}
    paths = sorted(Layout(thing).labels.glob("*/*.json"))
    if not paths:
        raise ConfigError(f"{thing}: no labels below it (labels/DATASET/IMAGE.json); name a results folder or a label")
    return {f"{path.parent.name}/{path.stem}": path for path in paths}


def _compared(document: dict[str, Any]) -> dict[str, Any]:
    """The entries of a provenance that say how a label was made."""
    provenance = {name: value for name, value in document["provenance"].items() if name in COMPARED}
    branches = provenance.get("branches", {})
    provenance["branches"] = {branch: _of_branch(entry) for branch, entry in branches.items()}
    quality = provenance.get("quality") or {}
    provenance["quality"] = quality.get("predictor_sha256")
    return provenance


def _of_branch(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a branch's entry that no image decides."""
    return {name: entry[name] for name in OF_BRANCH if name in entry}


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted name -> both values, where they differ."""
    ours = dict(_flattened("", first))
    theirs = dict(_flattened("", second))
    names = dict.fromkeys((*ours, *theirs))  # of a dict: their order stays
    values = {name: (ours.get(name), theirs.get(name)) for name in names}
    return {name: (one, other) for name, (one, other) in values.items() if one != other}


def _flattened(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield prefix, value
        return
    for name, inner in value.items():
        yield from _flattened(f"{prefix}.{name}" if prefix else name, inner)
