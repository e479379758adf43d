"""What there is to train on: cubes, labels and teacher features of a results folder, checked against each other."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hvlabel.cache.features import open_features
from hvlabel.cache.index import all_indexes
from hvlabel.cache.receipt import read_attributes
from hvlabel.config import DataSettings
from hvlabel.cube import open_cube
from hvlabel.errors import BandError, ConfigError, ResultsError
from hvlabel.layout import Layout
from hvlabel.models.hyperfree import choose_channels

Split = Literal["train", "heldout", "unseen"]


MAX_LEFT_OUT = 0.1  # share of images that may lack teacher features


@dataclass(frozen=True)
class Camera:
    """Images with one list of bands. wavelengths_nm: (C,) in file order."""

    name: str
    wavelengths_nm: tuple[float, ...]


@dataclass(frozen=True)
class TrainImage:
    """One labelled image.

    camera       : position in the corpus' cameras
    label_digest : seal of the label as its index gives it
    """

    dataset: str
    image_id: str
    camera: int
    split: Split
    cube: Path
    label: Path
    features: Path | None
    label_digest: str

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.dataset}/{self.image_id}"


@dataclass(frozen=True)
class Corpus:
    """All labelled images.

    teacher_channels : D of the teacher's tokens, 0 without a teacher
    teacher_centre   : (D,) mean of the training images' tokens
    identity         : hash of everything that training reads
    left_out         : labelled images without teacher features
    """

    images: tuple[TrainImage, ...]
    cameras: tuple[Camera, ...]
    teacher_channels: int
    teacher_centre: np.ndarray
    identity: str
    left_out: tuple[str, ...] = ()

    def of(self, *splits: Split) -> list[TrainImage]:
        """The images of some splits, in order."""
        return [i for i in self.images if i.split in splits]


def read_corpus(layout: Layout, data: DataSettings, *, distill: bool) -> Corpus:
    """Every labelled image of a results folder, split for training and evaluation.

    distill : teacher features are needed
    ResultsError without labels, or where features are missing or of several kinds; BandError for a camera outside the
    dictionary's range; ConfigError for an unknown data set.
    """
    labels = _entries(layout, "labels")
    if not labels:
        raise ResultsError(f"{layout.root}: no labels to train on; run `snakemake pseudolabels` first")
    unknown = sorted(set(data.unseen) - {dataset for dataset, _ in labels})
    if unknown:
        known = ", ".join(sorted({dataset for dataset, _ in labels}))
        raise ConfigError(f"pretrain.data.unseen names {unknown[0]!r}, which has no labels; there are: {known}")
    teacher = _entries(layout, "teacher") if distill else {}
    cameras: dict[tuple[float, ...], int] = {}
    names: list[str] = []
    images: list[TrainImage] = []
    left_out: list[str] = []
    for (dataset, image_id), digest in labels.items():
        cube = layout.cube(dataset, image_id)
        bands = tuple(float(nm) for nm in read_attributes(cube)["wavelengths_nm"])
        if bands not in cameras:
            _require_known_bands(dataset, bands)
            cameras[bands] = len(cameras)
            names.append(f"{dataset} ({len(bands)} bands, {min(bands):.0f}-{max(bands):.0f} nm)")
        if distill and (dataset, image_id) not in teacher:
            left_out.append(f"{dataset}/{image_id}")
            continue
        features = layout.teacher(dataset, image_id) if distill else None
        split: Split = "unseen" if dataset in data.unseen else "train"
        images.append(
            TrainImage(
                dataset, image_id, cameras[bands], split, cube, layout.label(dataset, image_id), features, digest
            )
        )
    if len(left_out) > MAX_LEFT_OUT * len(labels):
        raise ResultsError(
            f"{layout.root}: no teacher features of {len(left_out)} of {len(labels)} labelled images, e.g. {left_out[0]}; "
            "run `snakemake pretrain`, it makes them, and look at the logs of the teacher where it cannot"
        )
    images = _hold_out(images, data.holdout_share)
    if not any(i.split == "train" for i in images):
        raise ConfigError(
            "no image is left to train on; lower pretrain.data.holdout_share or shorten pretrain.data.unseen"
        )
    channels, centre = (
        _teacher_facts([i for i in images if i.split == "train"]) if distill else (0, np.zeros(0, np.float32))
    )
    content = [
        [i.name, i.label_digest, read_attributes(i.cube).get("key"), teacher.get((i.dataset, i.image_id), "")]
        for i in images
        if i.split == "train"
    ]
    identity = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return Corpus(
        tuple(images),
        tuple(Camera(n, b) for n, b in zip(names, cameras, strict=True)),
        channels,
        centre,
        identity,
        tuple(left_out),
    )


def _entries(layout: Layout, stage: str) -> dict[tuple[str, str], str]:
    """(data set, image) -> seal or key of a stage's good outputs."""
    return {
        (index.dataset, name): entry.digest
        for index in all_indexes(layout, stage)
        for name, entry in index.images.items()
        if entry.status == "ok"
    }


def _require_known_bands(dataset: str, bands: Sequence[float]) -> None:
    choice = choose_channels(bands)
    if not choice.key_channels and not choice.cube_channels:
        raise BandError(
            f"{dataset}: no band lies in the dictionary's range 390-2510 nm (bands: {min(bands):g}-{max(bands):g} nm); "
            "correct its wavelengths (they are in nm) or leave the data set out"
        )


def _hold_out(images: list[TrainImage], share: float) -> list[TrainImage]:
    """Every camera gives the same share, at least one of three or more images; which ones depends on their names alone."""
    by_camera: dict[int, list[TrainImage]] = defaultdict(list)
    for image in images:
        if image.split == "train":
            by_camera[image.camera].append(image)
    kept: set[str] = set()
    for group in by_camera.values():
        ranked = sorted(group, key=lambda i: hashlib.sha256(i.name.encode()).digest())
        n = round(share * len(group))
        kept |= {i.name for i in ranked[: max(n, 1) if share > 0 and len(group) >= 3 else n]}
    return [replace(i, split="heldout") if i.name in kept else i for i in images]


def _teacher_facts(images: Sequence[TrainImage]) -> tuple[int, np.ndarray]:
    """Channels and mean of the teacher's tokens; ResultsError if not all are of one network and grid."""
    total: np.ndarray | None = None
    first: dict[str, Any] = {}
    for image in images:
        assert image.features is not None
        features = open_features(image.features)
        made_from = {k: features.attributes[k] for k in ("model", "weights")}
        first = first or made_from
        if made_from != first:
            raise ResultsError(
                f"{image.features}: teacher features of another network or tile size than those of {images[0].name}; "
                "run the workflow again, it makes all of them alike"
            )
        if features.attributes["cube_key"] != read_attributes(image.cube)["key"]:
            raise ResultsError(f"{image.features}: made from another version of the cube; run the workflow again")
        size = open_cube(image.cube).shape[1:]
        grid = [round(s * n) for s, n in zip(features.stride_yx_px, features.shape, strict=False)]
        if grid != list(size):
            raise ResultsError(
                f"{image.features}: the grid of teacher features covers {grid[0]} x {grid[1]} px, the cube has {size[0]} x {size[1]}; run the workflow again"
            )
        mean = np.asarray(features.attributes["mean"], np.float64)
        total = mean if total is None else total + mean
    assert total is not None
    return len(total), (total / len(images)).astype(np.float32)
