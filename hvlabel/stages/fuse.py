"""Masks of all branches to labels."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hvlabel import __version__, fusion
from hvlabel.branches.table import CORE_BRANCHES
from hvlabel.cache.index import Entry, read_index
from hvlabel.cache.key import cache_key
from hvlabel.cache.publish import publish_bytes
from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import MaskFileError
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.masks import MaskSet, image_name, is_corrected, mask_document, masks_of, read_document, to_bytes
from hvlabel.quality import judge, predictor_sha256
from hvlabel.stages.mask_files import keep_edit, mask_entry, whole_document

REMARKS = ("fallback", "weights", "weights_sha256", "drawn_in")  # of a branch, where its provenance has them


class FuseStage:
    """Masks of all branches to labels."""

    name = "labels"

    def __init__(self, layout: Layout, settings: FusionSettings, dataset: str, shard: str) -> None:
        self.layout = layout
        self.settings = settings
        branches = settings.branches or CORE_BRANCHES
        self._branches = {b: read_index(layout.index(b, dataset, shard)).images for b in branches}
        # of the image at hand: blocked, key, valid and make all need its files
        self._on_disk: _OnDisk | None = None

    def blocked(self, image: Image) -> str | None:
        """The first branch's failure; a corrected label needs no branch any more."""
        self._on_disk = None
        if self._look(image).is_corrected:
            return None
        for branch, entries in self._branches.items():
            entry = entries.get(image.image_id)
            if entry is None:
                return f"no {branch} masks: not made yet"
            if entry.status != "ok":
                return f"no {branch} masks: {entry.reason}"
        return None

    def key(self, image: Image) -> str:
        """Key from the seals of the branch files; none for a corrected label, which is valid whatever they are."""
        look = self._look(image)
        return "" if look.is_corrected else _label_key(look.inputs, self.settings)

    def valid(self, image: Image, key: str) -> Entry | None:
        """The entry of a whole label with this key and its picture beside it."""
        look = self._look(image)
        if look.label is None:
            return None
        # what people corrected is theirs: no key makes it invalid
        has_key = look.is_corrected or look.label["provenance"].get("key") == key
        if not has_key or label_picture_damage(look.path, look.label):
            return None
        return mask_entry(look.path, self.layout, look.label)

    def make(self, image: Image, key: str) -> Entry:
        """Fuse the branches."""
        look = self._look(image)
        if look.label is None:  # a whole one holds no edit that could be lost
            keep_edit(look.path, self.layout)
        cube = self.layout.cube(image.dataset, image.image_id)
        document = _fuse(look.inputs, self.settings, look.path, cube, key, image.dataset)
        self._on_disk = None  # there is another label now
        return mask_entry(look.path, self.layout, document)

    def discard(self, image: Image) -> None:
        """An older label goes: the folder of labels is what is handed on."""
        path = self.layout.label(image.dataset, image.image_id)
        keep_edit(path, self.layout)  # before it goes: it may hold the work of a person
        path.unlink(missing_ok=True)
        path.with_suffix(".png").unlink(missing_ok=True)

    def _look(self, image: Image) -> _OnDisk:
        """What lies on disk of an image, each file read once."""
        if self._on_disk is None or self._on_disk.image != image:
            label = self.layout.label(image.dataset, image.image_id)
            masks = [self.layout.masks(branch, image.dataset, image.image_id) for branch in self._branches]
            self._on_disk = _OnDisk(image, label, masks)
        return self._on_disk


@dataclass
class _OnDisk:
    """An image's label, and the masks that it is fused from. path: the label's."""

    image: Image
    path: Path
    input_paths: list[Path]

    @cached_property
    def label(self) -> dict[str, Any] | None:
        """The label's document; None if there is none, or it is not whole."""
        return whole_document(self.path)

    @property
    def is_corrected(self) -> bool:
        """Whether people corrected the label: no run replaces it then."""
        return self.label is not None and is_corrected(self.label)

    @cached_property
    def inputs(self) -> list[_Input]:
        """The branches' documents; MaskFileError if one is missing or damaged."""
        return [_Input(path, read_document(path)) for path in self.input_paths]


@dataclass(frozen=True)
class _Input:
    """A mask file of a branch. document: what it holds."""

    path: Path
    document: dict[str, Any]

    @property
    def provenance(self) -> dict[str, Any]:
        """What its masks were made from."""
        return self.document["provenance"]

    @property
    def image(self) -> str:
        """Name of its image."""
        return image_name(self.document)


def fuse_files(
    inputs: Sequence[Path | str], settings: FusionSettings, out: Path | str, cube_path: Path | str | None = None
) -> dict[str, Any]:
    """Publish the label of several mask files, with the cube's RGB as PNG beside it if a cube is given.

    Returns what the label's file holds. MaskFileError if a mask file is missing, damaged or of another cube.
    """
    read = [_Input(Path(path), read_document(path)) for path in inputs]
    return _fuse(read, settings, Path(out), cube_path, _label_key(read, settings))


@dataclass(frozen=True)
class FusionEntry:
    """What the fusion of one image is given.

    settings     : with ranking auto decided
    expected_iou : per branch (N,) in [0, 1]; None: nobody was asked
    learned      : whether a network made any of the masks
    """

    branches: list[MaskSet]
    settings: FusionSettings
    expected_iou: list[np.ndarray] | None
    learned: bool

    def fused(self) -> MaskSet:
        """The label."""
        return fusion.fuse(self.branches, self.settings, self.expected_iou)


def fusion_entry(documents: Sequence[dict[str, Any]], settings: FusionSettings, cube: Cube | None) -> FusionEntry:
    """The branches' documents as the fusion takes them: judged by the quality predictor where that ranks them."""
    learned = any(document["provenance"].get("learned_model", False) for document in documents)
    ranking = settings.ranked_for(learned=learned, with_cube=cube is not None)
    branches = [masks_of(document) for document in documents]
    if ranking.ranking != "quality" or cube is None:
        return FusionEntry(branches, ranking, None, learned)
    judged = judge(branches, cube)
    return FusionEntry(judged.branches, ranking, judged.expected_iou, learned)


def _fuse(
    inputs: list[_Input],
    settings: FusionSettings,
    out: Path,
    cube_path: Path | str | None,
    key: str,
    dataset: str | None = None,
) -> dict[str, Any]:
    start = time.monotonic()
    name = _common_image(inputs)
    cube = None if cube_path is None else open_cube(cube_path)
    documents = [of_branch.document for of_branch in inputs]
    entry = fusion_entry(documents, settings, cube)
    ranking = entry.settings
    label = entry.fused()
    foreground = fusion.foreground(label)  # (H, W) bool

    provenance: dict[str, Any] = {
        "stage": "labels",
        "cube_key": inputs[0].provenance.get("cube_key"),
        "key": key,
        "settings": ranking.relevant(),
        "learned_model": entry.learned,
        "untrained_weights": any(i.provenance.get("untrained_weights", False) for i in inputs),
        "branches": {i.provenance["stage"]: _origin(i.provenance) for i in inputs},
        "foreground_share": round(float(foreground.mean()), 6),
    }
    if entry.expected_iou is not None:
        provenance["quality"] = _quality(label)
    provenance["wavelength_confidence"] = inputs[0].provenance.get("wavelength_confidence")
    if "georeference" in inputs[0].provenance:
        provenance["georeference"] = inputs[0].provenance["georeference"]
    provenance["hvlabel_version"] = __version__
    picture = out.with_suffix(".png")
    if cube is not None:
        provenance["picture_sha256"] = _publish_picture(cube, picture)
    provenance["seconds"] = round(time.monotonic() - start, 3)
    document = mask_document(label, name, provenance, picture.name, dataset)
    publish_bytes(out, to_bytes(document))
    return document


def _common_image(inputs: list[_Input]) -> str:
    """Name of the image that all mask files are of; MaskFileError unless they were made from one cube."""
    made_from = {(i.image, i.provenance.get("cube_key")) for i in inputs}
    if len(made_from) != 1:
        names = ", ".join(f"{i.path} of {i.image}" for i in inputs)
        raise MaskFileError(f"the mask files are not of one cube: {names}; make all of them from the same cube")
    return inputs[0].image


def _origin(provenance: dict[str, Any]) -> dict[str, Any]:
    """What a label says about a branch. recipe: the same for all images whose masks were made in the same way."""
    settings = json.dumps(provenance.get("settings"), sort_keys=True)  # their order is no part of a recipe
    remarks = {name: provenance[name] for name in REMARKS if provenance.get(name)}
    return {
        "backend": provenance.get("backend"),
        **remarks,
        "content_sha256": provenance["content_sha256"],
        "recipe": cache_key(provenance["stage"], [], settings, provenance.get("weights_sha256")),
    }


def _quality(label: MaskSet) -> dict[str, Any]:
    """What a label says about the quality of its masks. unknown: masks outside of what the predictor knows."""
    values = [float(m.extra["quality"]) for m in label.masks]
    return {
        "predictor_sha256": predictor_sha256(),
        "mean": round(float(np.mean(values)), 4) if values else None,
        "unknown": sum(not m.extra.get("quality_known", True) for m in label.masks),
    }


def _publish_picture(cube: Cube, path: Path) -> str:
    """Write the cube's RGB as PNG; its sha256."""
    bgr = cube.rgb[:, :, ::-1]  # OpenCV writes blue first
    content = cv2.imencode(".png", bgr)[1].tobytes()
    publish_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def label_picture_damage(path: Path, document: dict[str, Any]) -> str | None:
    """What is wrong with the picture beside a label, or None. path: the label's."""
    expected = document["provenance"].get("picture_sha256")
    if expected is None:
        return None
    picture = path.with_suffix(".png")
    if not picture.is_file():
        return f"{picture.name} is missing"
    content = picture.read_bytes()
    is_same = hashlib.sha256(content).hexdigest() == expected
    return None if is_same else f"{picture.name} was changed"


def _label_key(inputs: list[_Input], settings: FusionSettings) -> str:
    seals = [i.provenance["content_sha256"] for i in inputs]
    # of auto the masks decide, and with a cube at hand it comes to quality
    by_predictor = settings.ranking in ("auto", "quality")
    weights = predictor_sha256() if by_predictor else None
    return cache_key("labels", seals, settings.canonical(), weights)
