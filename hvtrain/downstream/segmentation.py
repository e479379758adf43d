"""Semantic segmentation: classes of all pixels, scored over the confusion matrix of a whole split."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.errors import ConfigError
from hvtrain.data.batch import Batch
from hvtrain.downstream.contract import Choice, Part, Scores, Task
from hvtrain.downstream.dense_head import head_plan
from hvtrain.downstream.dense_inputs import input_of
from hvtrain.downstream.feature_cache import FeatureCache
from hvtrain.downstream.frozen import Frozen
from hvtrain.downstream.images import TaskImages, identity_rows
from hvtrain.downstream.place import Place
from hvtrain.downstream.plots import draw_examples, draw_features
from hvtrain.downstream.samples import Sample, Samples
from hvtrain.downstream.segment_file import Classes, SegmentSettings
from hvtrain.downstream.splits import PARTS, labelled_share, leak_of, split_of
from hvtrain.heads.views import View
from hvtrain.metrics.segmentation import confusion_matrix, figures

FLIPS, PIXELS = 1, 2  # streams of random numbers: of a step's samples, of the pixels that stay labelled
N_EXAMPLES = 4
N_CELLS = 64 * 64  # of an example whose features are drawn


class Segmentation(Task):
    """See the contract; its batches hold a `view`'s parts and `labels` (B, H, W)."""

    kind: ClassVar[str] = "segment"
    figure: ClassVar[str] = "jaccard"
    terms: ClassVar[tuple[str, ...]] = ("loss", "cross_entropy", "dice")

    def __init__(self, settings: SegmentSettings, place: Place, backbone: Frozen | None, choice: Choice) -> None:
        self.settings, self.choice = settings, choice
        self.chosen = input_of(choice.input)
        self.classes = Classes.of(settings)
        images = TaskImages(settings.images, settings.truth, place)
        self.parts = split_of(images.names, settings.split)
        # before anything takes long: a name that tells no place is an error
        order = settings.split.order
        self._leak = leak_of(self.parts["train"], self.parts["test"], order) if order else None
        used = [name for part in PARTS for name in self.parts[part]]
        self._images = images.prepared(used)
        self._labels = self._read_labels()
        self.train, self._pixel_share = labelled_share(self.parts["train"], choice.labels, choice.seed)
        self._thin_out()
        self.cache = None
        if self.chosen.shown:
            assert backbone is not None  # who opens a task asks the input for it
            self.cache = FeatureCache(backbone, place.features(backbone.sha256), choice.input)
        neck = backbone is not None and backbone.has_neck
        self.samples = Samples(self._images, self._labels, self.chosen, self.cache, settings.pseudo_rgb, neck=neck)
        self.neck = neck
        self._groups = self._by_form()
        example = self.samples.of(self.train[0])
        self.plan = head_plan(choice, example, len(self.classes.names), settings.pooled_px)
        self.plan.require_samples(settings.recipe.batch_images)
        self._class_weights = self._weights()

    # ------------------------------------------------------------------------------------------ what the engine asks

    def make_head(self) -> nn.Module:
        """The network of the choice, behind what turns samples into what it takes."""
        return self.plan.build()

    def head_facts(self) -> dict[str, Any]:
        """Sizes, classes and what of a cube it is shown."""
        rgb = self.settings.pseudo_rgb
        return {
            "plan": asdict(self.plan),
            "input": self.choice.input,
            "classes": list(self.classes.names),
            "colours": [list(colour) for colour in self.classes.colours],
            "every_px": self.settings.images.every_px,
            "gsd_m": self.settings.images.gsd_m,
            "pseudo_rgb": None if rgb is None else rgb.model_dump(mode="json"),
            "neck": self.neck,
        }

    def identity(self) -> list[str]:
        """Of every image: content, truth and part."""
        rows = identity_rows(self.parts, self._images)
        content = json.dumps(rows)
        return [hashlib.sha256(content.encode()).hexdigest()]

    def batch(self, step: int) -> Batch:
        """Samples of one form, drawn with probabilities as their numbers; at least two, for the norms."""
        # nothing but the step decides, so that a resumed run meets the same batches
        rng = np.random.default_rng([self.choice.seed, FLIPS, step])
        sizes = np.array([len(group) for group in self._groups], float)
        chances = sizes / sizes.sum()
        group = self._groups[rng.choice(len(self._groups), p=chances)]
        # of a single image two samples, mirrored or not: more would tell nothing new
        n = min(self.settings.recipe.batch_images, max(2, len(group)))
        drawn = rng.choice(len(group), size=n, replace=n > len(group))
        names = [group[k] for k in drawn]
        flips = rng.random(n) < self.settings.augment.flip
        samples = [self.samples.of(name, flipped=bool(flip)) for name, flip in zip(names, flips, strict=True)]
        parts = _stacked(samples)
        if parts["picture"] is not None and self.settings.augment.gain_sd:
            picture = parts["picture"]  # (B, C, H, W)
            gains = rng.normal(1.0, self.settings.augment.gain_sd, (*picture.shape[:2], 1, 1))
            parts["picture"] = picture * torch.from_numpy(gains).float()
        return Batch(step=step, source=self.settings.title, names=tuple(names), problems=(), **parts)

    def losses(self, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy over labelled pixels (or divided by all), and dice where it has a weight."""
        logits = head(view_of(batch)).float()
        labels: Tensor = batch.labels
        target = labels.long()  # (B, H, W)
        weights = None if self._class_weights is None else self._class_weights.to(logits.device)
        per_pixel = F.cross_entropy(logits, target, weight=weights, ignore_index=self.classes.ignored, reduction="none")
        counts = target != self.classes.ignored
        # over all: an image counts as much as of it is labelled
        n = target.numel() if self.settings.loss.over == "all" else counts.sum().clamp(min=1)
        terms = {"cross_entropy": per_pixel.sum() / n}
        terms["loss"] = terms["cross_entropy"]
        if self.settings.loss.dice:
            terms["dice"] = dice_loss(logits, target, counts)
            terms["loss"] = terms["loss"] + self.settings.loss.dice * terms["dice"]
        return terms

    @torch.no_grad()
    def scores(self, head: nn.Module, part: Part) -> Scores:
        """Over all pixels of a part; the training images stand in where there is no validation part."""
        names = self.parts[part] or self.train
        # one matrix for all images: a mean of per-image figures is another figure
        n_classes = len(self.classes.names)
        confusion = np.zeros((n_classes, n_classes), np.int64)
        for name in names:
            labels = self._full_labels[name]  # scores never see that labels were thinned out
            predicted = self._predicted(head, name)
            confusion += confusion_matrix(predicted, labels, n_classes, self.classes.ignored)
        return Scores(figures(confusion, self.classes.ignored), {"confusion": confusion})

    def notes(self) -> dict[str, Any]:
        """Images and labelled pixels that were used, and how near the parts lie."""
        counts = {part: len(self.parts[part]) for part in PARTS}
        n_labelled = sum(int((self._labels[name] != self.classes.ignored).sum()) for name in self.train)
        notes: dict[str, Any] = {"images": counts, "trained_on": self.train, "labelled_px": n_labelled}
        if self._leak is not None:
            notes["leak"] = asdict(self._leak) | {"says": self._leak.sentence("test")}
        return notes

    def pictures(self, head: nn.Module, folder: Path) -> None:
        """Picture, truth and prediction of some test images."""
        rows = []
        for name in self.parts["test"][:N_EXAMPLES]:
            every = self.settings.images.every_px
            picture = self._images[name].cube.rgb[::every, ::every]
            predicted = self._predicted(head, name)
            rows.append((name, picture, self._full_labels[name], predicted))
        draw_examples(folder / "examples.png", rows, self.classes.names, self.classes.colours)
        if self.cache is not None:
            features, labels = self._cells()
            if len(labels):  # the middles of all cells may be unlabelled
                draw_features(folder / "features.png", features, labels, self.classes.names, self.classes.colours)

    # ------------------------------------------------------------------------------------------ samples

    def _predicted(self, head: nn.Module, name: str) -> np.ndarray:
        """(H, W) classes of an image."""
        device = next(head.parameters()).device
        parts = _stacked([self.samples.of(name)])
        batch = Batch(names=(name,), **parts).to(device)
        logits = head(view_of(batch))
        return logits[0].argmax(dim=0).cpu().numpy()

    def _cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, D) of the cells of some test images whose middle is labelled, and its class (n,)."""
        features, classes = [], []
        for name in self.parts["test"][:N_EXAMPLES]:
            sample = self.samples.of(name)
            whole = sample.maps[-1].float().numpy()  # (D, h, w)
            every = max(1, math.ceil(math.sqrt(whole[0].size / N_CELLS)))  # vectors of pixels are too many to be drawn
            deepest = whole[:, ::every, ::every]
            middles = [((np.arange(n) * every + 0.5) * sample.stride_px).astype(int) for n in deepest.shape[1:]]
            # a cell may reach beyond the image, and have its middle there
            inside = [np.minimum(m, side - 1) for m, side in zip(middles, sample.labels.shape, strict=True)]
            labels = self._full_labels[name][np.ix_(*inside)]
            known = labels != self.classes.ignored
            features.append(deepest[:, known].T)
            classes.append(labels[known])
        return np.concatenate(features), np.concatenate(classes)

    def _read_labels(self) -> dict[str, np.ndarray]:
        """Labels of all images; ConfigError as Classes.require_work."""
        labels = {}
        for name, image in self._images.items():
            labels[name] = self.classes.labels(name, image.classes(), self.settings.truth.ignore_index)
        self._full_labels = dict(labels)
        train = [labels[name] for name in self.parts["train"]]
        test = [labels[name] for name in self.parts["test"]]
        self.classes.require_work(train, test)
        return labels

    def _thin_out(self) -> None:
        """Leave only a share of the labelled pixels of the training images."""
        if self._pixel_share == 1.0:
            return
        rng = np.random.default_rng([self.choice.seed, PIXELS])
        for name in self.train:
            left = rng.random(self._labels[name].shape) < self._pixel_share
            self._labels[name] = np.where(left, self._labels[name], np.uint8(self.classes.ignored))
        if not any((self._labels[name] != self.classes.ignored).any() for name in self.train):
            share = f"--labels {self.choice.labels:g}"
            raise ConfigError(f"{share}: no pixel of {', '.join(self.train)} stays labelled; give a larger share")

    def _by_form(self) -> list[list[str]]:
        """Training images that can be in one batch; all samples are made on the way: nothing is encoded later."""
        groups: dict[Any, list[str]] = defaultdict(list)
        channels: dict[int, str] = {}
        for name in dict.fromkeys([*self.train, *self._images]):
            sample = self.samples.of(name)
            if sample.picture is not None:
                channels.setdefault(len(sample.picture), name)
            if name in self.train:
                if self.cache is not None and self.settings.augment.flip:
                    self.samples.of(name, flipped=True)
                groups[sample.form].append(name)
        if len(channels) > 1:
            (first, one), (second, other) = list(channels.items())[:2]
            raise ConfigError(
                f"image {one} has {first} bands, {other} {second}: input {self.choice.input} needs images of one "
                "camera; choose input features, or split the task"
            )
        return list(groups.values())

    def _weights(self) -> Tensor | None:
        """(K,) weights of classes with mean 1 over those that occur, or none."""
        if self.settings.loss.class_weights == "none":
            return None
        n_classes = len(self.classes.names)
        counts = np.zeros(n_classes)
        for name in self.train:
            labels = self._labels[name]
            known = labels[labels != self.classes.ignored]
            counts += np.bincount(known, minlength=n_classes)[:n_classes]
        occurs = counts > 0
        inverse = np.where(occurs, 1 / np.sqrt(np.maximum(counts, 1)), 0.0)
        weights = inverse / inverse[occurs].mean()
        return torch.from_numpy(weights).float()


def _stacked(samples: Sequence[Sample]) -> dict[str, Any]:
    """Fields of a batch."""
    first = samples[0]
    fields: dict[str, Any] = {"stride_px": first.stride_px, "n_maps": len(first.maps), "picture": None}
    if first.picture is not None:
        fields["picture"] = torch.stack([sample.picture for sample in samples if sample.picture is not None])
    for k in range(len(first.maps)):
        fields[f"map{k}"] = torch.stack([sample.maps[k] for sample in samples]).float()
    fields["labels"] = torch.stack([sample.labels for sample in samples])
    return fields


def view_of(batch: Any) -> View:
    """What a head sees of a batch."""
    maps = [getattr(batch, f"map{k}") for k in range(batch.n_maps)]
    height, width = batch.labels.shape[1:]
    return View((height, width), batch.picture, maps, batch.stride_px)


def dice_loss(logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """1 - mean soft dice over the classes that occur in a batch.

    logits : (B, K, H, W); target : (B, H, W) int64; counts : (B, H, W) bool, pixels that do
    """
    n_classes = logits.shape[1]
    known = counts[:, None]  # (B, 1, H, W)
    likely = logits.softmax(dim=1) * known
    inside = target.clamp(max=n_classes - 1)  # what is ignored may lie outside; it is masked
    truth = F.one_hot(inside, n_classes).movedim(-1, 1) * known  # (B, K, H, W)
    of_class = (0, 2, 3)  # what a sum over a class runs along
    overlap = (likely * truth).sum(dim=of_class)  # (K,)
    sizes = (likely + truth).sum(dim=of_class)
    occurs = truth.sum(dim=of_class) > 0
    dice = 2 * overlap[occurs] / sizes[occurs].clamp(min=1e-6)
    return 1 - dice.mean() if len(dice) else logits.sum() * 0  # times 0: still has a gradient


def open_segmentation(settings: Any, place: Place, backbone: Frozen | None, choice: Choice) -> Task:
    """The task of a file; errors as its parts."""
    assert isinstance(settings, SegmentSettings)  # the table's
    return Segmentation(settings, place, backbone, choice)
