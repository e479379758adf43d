"""What there is to train on: cubes, labels and teacher features of a results folder, checked against each other."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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

Split = Literal["train", "heldout", "unseen"]

MAX_LEFT_OUT = 0.1  # share of images that may lack teacher features: a few bad ones shall not stop a run of days
MIN_FOR_HELD_OUT = 3  # images of a camera, of which at least one is held out


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
        return [image for image in self.images if image.split in splits]


def read_corpus(
    layout: Layout,
    data: DataSettings,
    *,
    distill: bool,
    require_bands: Callable[[Sequence[float]], None] | None = None,
) -> Corpus:
    """Every labelled image of a results folder, split for training and evaluation.

    distill       : teacher features are needed
    require_bands : raises BandError for (C,) band centres, nm, that the backbone cannot read
    ResultsError without labels, or where features are missing or of several kinds; BandError for a camera that the
    backbone cannot read; ConfigError for an unknown data set.
    """
    labels = _entries(layout, "labels")
    if not labels:
        raise ResultsError(f"{layout.root}: no labels to train on; run `snakemake pseudolabels` first")
    _require_known_datasets(data.unseen, labels)
    teacher = _entries(layout, "teacher") if distill else {}
    cameras = _Cameras(require_bands)
    left_out: list[str] = []
    images: list[TrainImage] = []
    for (dataset, image_id), label_digest in labels.items():
        camera = cameras.number_of(dataset, layout.cube(dataset, image_id))
        if distill and (dataset, image_id) not in teacher:
            left_out.append(f"{dataset}/{image_id}")
            continue
        image = _image(layout, dataset, image_id, camera, label_digest, unseen=data.unseen, distill=distill)
        images.append(image)
    _require_few_left_out(layout, left_out, len(labels))
    images = _hold_out(images, data.holdout_share)
    trained = [image for image in images if image.split == "train"]
    if not trained:
        raise ConfigError(
            "no image is left to train on; lower pretrain.data.holdout_share or shorten pretrain.data.unseen"
        )
    channels, centre = _teacher_facts(trained) if distill else (0, np.zeros(0, np.float32))
    return Corpus(
        images=tuple(images),
        cameras=tuple(cameras.known.values()),
        teacher_channels=channels,
        teacher_centre=centre,
        identity=_identity(trained, teacher),
        left_out=tuple(left_out),
    )


def _image(
    layout: Layout,
    dataset: str,
    image_id: str,
    camera: int,
    label_digest: str,
    *,
    unseen: Sequence[str],
    distill: bool,
) -> TrainImage:
    """A labelled image; none is held out yet."""
    return TrainImage(
        dataset=dataset,
        image_id=image_id,
        camera=camera,
        split="unseen" if dataset in unseen else "train",
        cube=layout.cube(dataset, image_id),
        label=layout.label(dataset, image_id),
        features=layout.teacher(dataset, image_id) if distill else None,
        label_digest=label_digest,
    )


def _require_few_left_out(layout: Layout, left_out: Sequence[str], n_labels: int) -> None:
    """ResultsError where too many of the labelled images have no teacher features."""
    if len(left_out) <= MAX_LEFT_OUT * n_labels:
        return
    raise ResultsError(
        f"{layout.root}: no teacher features of {len(left_out)} of {n_labels} labelled images, "
        f"e.g. {left_out[0]}; run `snakemake pretrain`, it makes them, and look at the logs of the teacher "
        "where it cannot"
    )


class _Cameras:
    """Cameras in the order in which their images were met: one list of bands is one camera."""

    def __init__(self, require_bands: Callable[[Sequence[float]], None] | None) -> None:
        self._require_bands = require_bands
        self.known: dict[tuple[float, ...], Camera] = {}

    def number_of(self, dataset: str, cube: Path) -> int:
        """Position of a cube's camera; BandError if the backbone cannot read it."""
        recorded = read_attributes(cube)["wavelengths_nm"]
        bands = tuple(float(nm) for nm in recorded)
        if bands not in self.known:
            if self._require_bands is not None:
                self._check(dataset, bands)
            name = f"{dataset} ({len(bands)} bands, {min(bands):.0f}-{max(bands):.0f} nm)"
            self.known[bands] = Camera(name, bands)
        return list(self.known).index(bands)

    def _check(self, dataset: str, bands: tuple[float, ...]) -> None:
        assert self._require_bands is not None
        try:
            self._require_bands(bands)
        except BandError as error:
            raise BandError(
                f"{dataset}: {error}; correct its wavelengths (they are in nm) or leave the data set out"
            ) from error


def _require_known_datasets(unseen: Sequence[str], labels: Iterable[tuple[str, str]]) -> None:
    """ConfigError where a data set that is to be kept out of training has no labels."""
    known = {dataset for dataset, _ in labels}
    unknown = sorted(set(unseen) - known)
    if unknown:
        raise ConfigError(
            f"pretrain.data.unseen names {unknown[0]!r}, which has no labels; there are: {', '.join(sorted(known))}"
        )


def _identity(trained: Sequence[TrainImage], teacher: Mapping[tuple[str, str], str]) -> str:
    """Hash of everything that training reads: of each image its label, its cube's key, its teacher features."""
    content = []
    for image in trained:
        cube_key = read_attributes(image.cube).get("key")
        teacher_key = teacher.get((image.dataset, image.image_id), "")
        content.append([image.name, image.label_digest, cube_key, teacher_key])
    text = json.dumps(content)
    return hashlib.sha256(text.encode()).hexdigest()


def _entries(layout: Layout, stage: str) -> dict[tuple[str, str], str]:
    """(data set, image) -> seal or key of a stage's good outputs."""
    digests = {}
    for index in all_indexes(layout, stage):
        for image_id, entry in index.images.items():
            if entry.status == "ok":
                digests[index.dataset, image_id] = entry.digest
    return digests


def _hold_out(images: list[TrainImage], share: float) -> list[TrainImage]:
    """Every camera gives the same share, at least one of three or more images; which ones, their names decide."""
    by_camera: dict[int, list[TrainImage]] = defaultdict(list)
    for image in images:
        if image.split == "train":
            by_camera[image.camera].append(image)
    held_out: set[str] = set()
    for group in by_camera.values():
        ranked = sorted(group, key=_rank)
        n_held_out = round(share * len(group))
        if share > 0 and len(group) >= MIN_FOR_HELD_OUT:
            n_held_out = max(n_held_out, 1)
        held_out |= {image.name for image in ranked[:n_held_out]}
    marked = []
    for image in images:
        marked.append(replace(image, split="heldout") if image.name in held_out else image)
    return marked


def _rank(image: TrainImage) -> bytes:
    """By a hash of the name: the same images stay held out when others are added."""
    return hashlib.sha256(image.name.encode()).digest()


def _teacher_facts(images: Sequence[TrainImage]) -> tuple[int, np.ndarray]:
    """Channels D and mean (D,) of the teacher's tokens; ResultsError if not all are of one network and grid.

    Every file knows the mean of its own tokens; images count alike, whatever their size.
    """
    total: np.ndarray | None = None
    first: dict[str, Any] = {}
    for image in images:
        assert image.features is not None
        features = open_features(image.features)
        made_from = {name: features.attributes[name] for name in ("model", "weights")}
        first = first or made_from
        if made_from != first:
            raise ResultsError(
                f"{image.features}: teacher features of another network or tile size than those of {images[0].name}; "
                "run the workflow again, it makes all of them alike"
            )
        if features.attributes["cube_key"] != read_attributes(image.cube)["key"]:
            raise ResultsError(f"{image.features}: made from another version of the cube; run the workflow again")
        height_px, width_px = open_cube(image.cube).shape[1:]
        stride_y_px, stride_x_px = features.stride_yx_px
        covered_y_px = round(stride_y_px * features.shape[0])
        covered_x_px = round(stride_x_px * features.shape[1])
        if (covered_y_px, covered_x_px) != (height_px, width_px):
            raise ResultsError(
                f"{image.features}: the grid of teacher features covers {covered_y_px} x {covered_x_px} px, "
                f"the cube has {height_px} x {width_px}; run the workflow again"
            )
        mean = np.asarray(features.attributes["mean"], np.float64)  # float64: sums of many images
        total = mean if total is None else total + mean
    assert total is not None
    centre = total / len(images)
    return len(centre), centre.astype(np.float32)
