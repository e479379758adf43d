"""Masks of all branches to labels."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hvlabel import __version__, fusion
from hvlabel.cache.index import Entry, read_index
from hvlabel.cache.key import cache_key
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import BRANCHES, FusionSettings
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import MaskFileError
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.masks import MaskSet, dump_masks, masks_of, read_document
from hvlabel.quality import load_predictor, mask_features, predictor_sha256, view_of
from hvlabel.stages.mask_files import corrected_document, keep_edit, mask_entry, valid_document


class FuseStage:
    """Masks of all branches to labels."""

    name = "labels"

    def __init__(self, layout: Layout, settings: FusionSettings, dataset: str, shard: str) -> None:
        self.layout, self.settings = layout, settings
        self._branches = {b: read_index(layout.index(b, dataset, shard)).images for b in settings.branches or BRANCHES}

    def blocked(self, image: Image) -> str | None:
        """The first branch's failure; a corrected label needs no branch any more."""
        if corrected_document(self.layout.label(image.dataset, image.image_id)) is not None:
            return None
        for branch, entries in self._branches.items():
            entry = entries.get(image.image_id)
            if entry is None or entry.status != "ok":
                return f"no {branch} masks: " + (entry.reason if entry else "not made yet")
        return None

    def key(self, image: Image) -> str:
        """Key from the seals of the branch files; none for a corrected label, which is valid whatever they are."""
        if corrected_document(self.layout.label(image.dataset, image.image_id)) is not None:
            return ""
        seals = [read_document(p)["provenance"]["content_sha256"] for p in self._inputs(image)]
        return _label_key(seals, self.settings)

    def valid(self, image: Image, key: str) -> Entry | None:
        """The entry of a whole label with this key and its picture beside it."""
        path = self.layout.label(image.dataset, image.image_id)
        document = valid_document(path, key)
        if document is None or label_picture_damage(path, document):
            return None
        return mask_entry(path, self.layout, document)

    def make(self, image: Image, key: str) -> Entry:
        """Fuse the branches."""
        path = self.layout.label(image.dataset, image.image_id)
        keep_edit(path, self.layout)
        fuse_files(self._inputs(image), self.settings, path, self.layout.cube(image.dataset, image.image_id))
        return mask_entry(path, self.layout, read_document(path))

    def discard(self, image: Image) -> None:
        """An older label goes: the folder of labels is what is handed on."""
        path = self.layout.label(image.dataset, image.image_id)
        keep_edit(path, self.layout)
        path.unlink(missing_ok=True)
        path.with_suffix(".png").unlink(missing_ok=True)

    def _inputs(self, image: Image) -> list[Path]:
        return [self.layout.masks(branch, image.dataset, image.image_id) for branch in self._branches]


def fuse_files(inputs: list[Path], settings: FusionSettings, out: Path, cube_path: Path | None = None) -> MaskSet:
    """The label of several mask files, with the cube's RGB as PNG beside it if a cube is given."""
    start = time.monotonic()
    documents = [read_document(p) for p in inputs]
    sources = [d["provenance"] for d in documents]
    made_from = {(d["image"]["image_id"], d["provenance"].get("cube_key")) for d in documents}
    if len(made_from) != 1:
        names = ", ".join(f"{p} of {d['image']['image_id']}" for p, d in zip(inputs, documents, strict=True))
        raise MaskFileError(f"the mask files are not of one cube: {names}; make all of them from the same cube")
    learned = any(s.get("learned_model", False) for s in sources)
    ranking = settings.ranked_for(learned=learned, with_cube=cube_path is not None)
    branches = [masks_of(d) for d in documents]
    cube = None if cube_path is None else open_cube(cube_path)
    judged = None
    if ranking.ranking == "quality" and cube is not None:
        judged = judge(branches, cube)
        branches = judged.branches
    label = fusion.fuse(branches, ranking, judged.expected_iou if judged else None)
    seals = [s["content_sha256"] for s in sources]
    foreground = fusion.foreground(label)
    provenance: dict[str, Any] = {
        "stage": "labels",
        "cube_key": sources[0].get("cube_key"),
        "key": _label_key(seals, settings),
        "settings": ranking.relevant(),
        "learned_model": learned,
        "untrained_weights": any(s.get("untrained_weights", False) for s in sources),
        "branches": {
            s["stage"]: {
                "backend": s.get("backend"),
                **{name: s[name] for name in ("fallback", "weights", "weights_sha256") if s.get(name)},
                "content_sha256": s["content_sha256"],
                "recipe": cache_key(
                    s["stage"], [], json.dumps(s.get("settings"), sort_keys=True), s.get("weights_sha256")
                ),
            }
            for s in sources
        },
        "foreground_share": round(float(foreground.mean()), 6),
        **({"quality": judged.provenance(label)} if judged else {}),
        "wavelength_confidence": sources[0].get("wavelength_confidence"),
        **({"georeference": sources[0]["georeference"]} if "georeference" in sources[0] else {}),
        "hvlabel_version": __version__,
    }
    if cube is not None:
        picture = cv2.imencode(".png", cube.rgb[:, :, ::-1])[1].tobytes()
        publish_bytes(out.with_suffix(".png"), picture)
        provenance["picture_sha256"] = hashlib.sha256(picture).hexdigest()
    provenance["seconds"] = round(time.monotonic() - start, 3)
    publish_bytes(out, dump_masks(label, documents[0]["image"]["image_id"], provenance, out.with_suffix(".png").name))
    return label


def label_picture_damage(path: Path, document: dict[str, Any]) -> str | None:
    """What is wrong with the picture beside a label, or None."""
    expected = document["provenance"].get("picture_sha256")
    if expected is None:
        return None
    picture = path.with_suffix(".png")
    if not picture.is_file():
        return f"{picture.name} is missing"
    return None if hashlib.sha256(picture.read_bytes()).hexdigest() == expected else f"{picture.name} was changed"


@dataclass(frozen=True)
class Judged:
    """Masks of all branches with what is expected of them.

    branches     : the same masks; of each, `quality` and, where it lies outside of what the predictor knows, `quality_known`
    expected_iou : per branch (N,)
    """

    branches: list[MaskSet]
    expected_iou: list[np.ndarray]

    def provenance(self, label: MaskSet) -> dict[str, Any]:
        """What a label says about the quality of its masks."""
        values = [float(m.extra["quality"]) for m in label.masks]
        return {
            "predictor_sha256": predictor_sha256(),
            "mean": round(float(np.mean(values)), 4) if values else None,
            "unknown": sum(not m.extra.get("quality_known", True) for m in label.masks),
        }


def judge(branches: list[MaskSet], cube: Cube) -> Judged:
    """What the predictor expects of every mask; each is also compared with all others."""
    pool = [m for branch in branches for m in branch.masks]
    predictor = load_predictor()
    features = mask_features(pool, view_of(cube))
    quality, known = predictor.quality(features), predictor.is_known(features)
    told = []
    for mask, value, is_known in zip(pool, quality, known, strict=True):
        extra = {**mask.extra, "quality": round(float(value), 4)}
        told.append(replace(mask, extra=extra if is_known else {**extra, "quality_known": False}))
    ends = np.cumsum([len(b) for b in branches])
    bounds = [(end - len(b), end) for b, end in zip(branches, ends, strict=True)]
    judged = [replace(b, masks=tuple(told[i:j])) for b, (i, j) in zip(branches, bounds, strict=True)]
    return Judged(judged, [quality[i:j] for i, j in bounds])


def _label_key(seals: list[str], settings: FusionSettings) -> str:
    by_predictor = settings.ranking in ("auto", "quality")
    return cache_key("labels", seals, settings.canonical(), predictor_sha256() if by_predictor else None)
