"""Tracking of one object through a sequence, from its box in the first frame."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hvlabel.cube import open_cube
from hvlabel.descriptors import load_descriptor
from hvlabel.errors import ConfigError, RawFileError
from hvlabel.models.weights import file_sha256
from hvtrain.data.batch import Batch
from hvtrain.downstream.contract import Choice, Part, Scores, Task
from hvtrain.downstream.dense_inputs import require_maps
from hvtrain.downstream.frozen import Frozen
from hvtrain.downstream.images import cube_identity
from hvtrain.downstream.pairs import Pair, draw_pair, with_template_of
from hvtrain.downstream.place import Place
from hvtrain.downstream.sequences import Frames, Shown, Track, parts_of_tracks, require_sizes, tracks_of
from hvtrain.downstream.splits import PARTS, labelled_share
from hvtrain.downstream.track_file import TrackSettings
from hvtrain.downstream.track_heads import CENTER, FOLLOWING, answer_of, track_head, tracker_of
from hvtrain.downstream.tracker import CropEncoder, Stay, track
from hvtrain.heads.table import build_head
from hvtrain.metrics.tracking import SequenceScores, mean_scores, sequence_scores

DRAWS = 1  # stream of random numbers
FIGURES = ("auc", "dp20", "norm_dp20")


@dataclass(frozen=True)
class _Sizes:
    """Of a head, as JSON can hold it."""

    widths: tuple[int, ...]
    grid: int
    width: int


class Tracking(Task):
    """See the contract.

    Batches hold `template`, `search` (B, C, n, n), `boxes` (B, 4) in shares of the search crop, and `is_same` (B,),
    whether both crops show one object.

    A batch is of one camera; its pairs are of sequences drawn alike, however long.
    """

    kind: ClassVar[str] = "tracking"
    figure: ClassVar[str] = "auc"

    def __init__(self, settings: TrackSettings, place: Place, backbone: Frozen, choice: Choice) -> None:
        self._row = track_head(choice.head)
        if place.data is None:
            raise ConfigError(f"task {place.task}: where are its sequences? give their folder with --data")
        if backbone.network.input_range == "photograph":
            raise ConfigError(
                f"backbone {backbone.name} sees photographs, a tracking head is shown crops of measured values; "
                "`hvtrain predict sam` follows without a head"
            )
        if settings.follow is not None and self._row.follow is None:
            raise ConfigError(f"`follow` of a task file is for heads {', '.join(FOLLOWING)}, not for {choice.head}")
        self.settings, self.choice, self.backbone = settings, choice, backbone
        self.frames = Frames(shown_of(choice.input))
        self.parts = parts_of_tracks(tracks_of(place.data, settings), settings)
        self._by_camera: dict[str, list[Track]] = defaultdict(list)
        names = [sequence.name for sequence in self.parts["train"]]
        # of a sequence there is no part: its boxes are not independent
        used, _ = labelled_share(names, choice.labels, choice.seed)
        self.train = [sequence for sequence in self.parts["train"] if sequence.name in used]
        for sequence in self.train:
            self._by_camera[sequence.camera].append(sequence)
        for of_camera in self._by_camera.values():
            self._require_one_list_of_bands(of_camera)
        for sequence in [*self.parts["val"], *self.parts["test"]]:
            self._require_something_to_score(sequence)
        self._sizes = self._sizes_of(self.parts["train"][0])

    # ------------------------------------------------------------------------------------------ what the engine asks

    @property
    def terms(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of the head's losses."""
        return self._row.terms

    def make_head(self) -> nn.Module:
        """The head of the choice, for the backbone's maps."""
        return build_head(self.choice.head, **asdict(self._sizes))

    def head_facts(self) -> dict[str, Any]:
        """Sizes, crops, and how frames of each camera are read."""
        cameras = {}
        for name, camera in self.settings.cameras.items():
            row = camera.model_dump(mode="json", exclude={"descriptor"})
            # the whole descriptor: a head that is handed on must not need the file it was named by
            descriptor = None if camera.descriptor is None else load_descriptor(name, camera.descriptor)
            kept = descriptor and descriptor.model_dump(mode="json", exclude_defaults=True)
            cameras[name] = row | {"descriptor": kept}
        follow = self.settings.follow
        return {
            "head": self.choice.head,
            "sizes": asdict(self._sizes) | {"widths": list(self._sizes.widths)},
            "input": self.choice.input,
            "factor": self.settings.factor,
            "follow": None if follow is None else follow.model_dump(mode="json"),
            "cameras": cameras,
        }

    def identity(self) -> list[str]:
        """Of every sequence: part, boxes, names of frames, and the first frame's content.

        To hash every frame of a benchmark of tracking would take longer than training.
        """
        rows: list[Any] = []
        for part in PARTS:
            for sequence in self.parts[part]:
                first = sequence.frames[0]
                content = file_sha256(first) if first.is_file() else cube_identity(open_cube(first))
                names = [path.name for path in sequence.frames]
                rows.append([part, sequence.name, sequence.camera, sequence.boxes_xywh.tolist(), names, content])
        if self.choice.labels < 100:
            # the choice names a share; which sequences these are belongs to the run too
            rows.append([sequence.name for sequence in self.train])
        content = json.dumps(rows)
        return [hashlib.sha256(content.encode()).hexdigest()]

    def batch(self, step: int) -> Batch:
        """Pairs of one camera, drawn with probabilities as the roots of their numbers of sequences."""
        rng = np.random.default_rng([self.choice.seed, DRAWS, step])
        cameras = sorted(self._by_camera)
        weights = np.sqrt([len(self._by_camera[camera]) for camera in cameras])
        chances = weights / weights.sum()
        camera = cameras[rng.choice(len(cameras), p=chances)]
        sequences = self._by_camera[camera]
        drawn: list[Track] = []
        pairs: list[Pair] = []
        for _ in range(self.settings.recipe.batch_images):
            k = int(rng.integers(len(sequences)))
            drawn.append(sequences[k])
            pairs.append(self._pair(sequences, k, rng))
        levels = torch.tensor([pair.levels for pair in pairs])  # (B, 2), of template and search crop
        levels = levels.T[:, :, None, None, None]  # (2, B, 1, 1, 1)
        scale = levels if self._is_scaled else torch.ones_like(levels)
        return Batch(
            step=step,
            source=drawn[0].camera,
            names=tuple(sequence.name for sequence in drawn),
            problems=(),
            wavelengths_nm=self.frames.bands_nm(drawn[0]),
            template=torch.stack([pair.template for pair in pairs]) / scale[0],
            search=torch.stack([pair.search for pair in pairs]) / scale[1],
            boxes=torch.from_numpy(np.stack([pair.box for pair in pairs])).float(),
            is_same=torch.tensor([pair.is_same for pair in pairs]),
        )

    def losses(self, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Those of the head."""
        fields: Any = batch
        encoder = CropEncoder(self.backbone.network, batch.wavelengths_nm, 1.0, self.settings.factor)
        n = len(fields.template)
        maps = encoder(torch.cat([fields.template, fields.search]))  # both at once: half the calls
        of_template = [of_scale[:n] for of_scale in maps]
        of_search = [of_scale[n:] for of_scale in maps]
        answer = answer_of(head, of_template, of_search)
        is_same = (fields.is_same,) if self._row.negatives else ()
        return self._row.losses(answer, fields.boxes, *is_same)

    @torch.no_grad()
    def scores(self, head: nn.Module, part: Part) -> Scores:
        """Of a part, beside the tracker that stays; the training part stands in where there is none for validation."""
        by_camera: dict[str, list[SequenceScores]] = defaultdict(list)
        stayed = []
        boxes: dict[str, np.ndarray] = {}
        for sequence in self.parts[part] or self.train:
            tracker = tracker_of(self.choice.head, head, self._encoder(sequence), self.settings.follow)
            predicted = track(sequence, self.frames, tracker)
            by_camera[sequence.camera].append(self._scores(sequence, predicted))
            standing = track(sequence, self.frames, Stay())
            stayed.append(self._scores(sequence, standing))
            boxes[sequence.name.replace("/", ".")] = predicted
        everything = mean_scores([of_one for of_camera in by_camera.values() for of_one in of_camera])
        figures = {name: getattr(everything, name) for name in FIGURES}
        stay = mean_scores(stayed)
        figures |= {"stay_auc": stay.auc, "stay_dp20": stay.dp20}
        if len(by_camera) > 1:
            figures |= _of_cameras({name: mean_scores(of_one) for name, of_one in by_camera.items()})
        curves = {"success": everything.success, "precision": everything.precision}
        return Scores(figures, curves | boxes)

    def notes(self) -> dict[str, Any]:
        """Sequences and frames per part, and which frames count."""
        counts = {part: len(self.parts[part]) for part in PARTS}
        frames = {part: sum(map(len, self.parts[part])) for part in PARTS}
        counted = "all frames, as pysot" if self.settings.pysot_compat else "frames with a true box, but the first"
        few = {"trained_on": [sequence.name for sequence in self.train]} if self.choice.labels < 100 else {}
        return {"sequences": counts, "frames": frames, "scores": counted} | few

    # ------------------------------------------------------------------------------------------ sequences

    def _pair(self, sequences: list[Track], k: int, rng: np.random.Generator) -> Pair:
        """Of the k-th sequence; of two where the head learns from such pairs and one is due."""
        settings, factor = self.settings.pairs, self.settings.factor
        side_px = self.backbone.network.side_px
        pair = draw_pair(sequences[k], self.frames, settings, factor, side_px, rng)
        is_negative = self._row.negatives and len(sequences) > 1 and rng.random() < settings.negative
        if not is_negative:
            return pair
        other = (k + int(rng.integers(1, len(sequences)))) % len(sequences)  # any but the k-th
        of_other = draw_pair(sequences[other], self.frames, settings, factor, side_px, rng)
        return with_template_of(pair, of_other)

    def _sizes_of(self, sequence: Track) -> _Sizes:
        """Of the head: what the backbone makes of a crop of zeros tells its maps."""
        side_px = self.backbone.network.side_px
        n_bands = len(self.frames.of(sequence, 0))
        empty = torch.zeros(1, n_bands, side_px, side_px)
        maps = self._encoder(sequence)(empty)
        widths = tuple(of_scale.shape[1] for of_scale in maps)
        return _Sizes(widths, maps[-1].shape[-1], self.settings.width)

    @property
    def _is_scaled(self) -> bool:
        return self.backbone.network.input_range == "unit_max"

    def _require_one_list_of_bands(self, sequences: list[Track]) -> None:
        """ConfigError where sequences of a camera have different band centres: a batch holds one list.

        RawFileError as require_sizes.
        """
        first_nm = self.frames.bands_nm(sequences[0])
        for sequence in sequences:
            _, height, width = self.frames.of(sequence, 0).shape
            require_sizes(sequence, (height, width))
        for sequence in sequences[1:]:
            if self.frames.bands_nm(sequence) != first_nm:
                raise ConfigError(
                    f"sequences {sequences[0].name} and {sequence.name} have different bands; give each camera its own "
                    "entry and folder in cameras"
                )

    def _require_something_to_score(self, sequence: Track) -> None:
        """RawFileError where the object is in none of the frames that count."""
        first = 0 if self.settings.pysot_compat else 1
        if not (sequence.visible >= first).any():
            raise RawFileError(
                f"{sequence.boxes_from}: no frame but the first has a box: there is nothing to score; correct it, or "
                "leave the sequence out"
            )

    def _encoder(self, sequence: Track) -> CropEncoder:
        bands_nm = self.frames.bands_nm(sequence)
        network = self.backbone.network
        network.require_bands(bands_nm)
        level = self.frames.brightest(sequence)
        return CropEncoder(network, bands_nm, level, self.settings.factor)

    def _scores(self, sequence: Track, predicted: np.ndarray) -> SequenceScores:
        return score(sequence, predicted, pysot_compat=self.settings.pysot_compat)


def score(sequence: Track, predicted_xywh: np.ndarray, *, pysot_compat: bool) -> SequenceScores:
    """Scores of predicted boxes (T, 4) px; the first frame, whose box is given, counts as pysot counts it or not."""
    first = 0 if pysot_compat else 1
    return sequence_scores(sequence.boxes_xywh[first:], predicted_xywh[first:], pysot_compat=pysot_compat)


def shown_of(name: str) -> Shown:
    """What of a frame the backbone is shown; ConfigError for an input without maps."""
    return "rgb" if require_maps(name).shown == "rgb" else "cube"


def _of_cameras(scores: dict[str, SequenceScores]) -> dict[str, float]:
    """Of each camera, and the mean of the cameras: it is not settled which of the two a benchmark means."""
    figures: dict[str, float] = {}
    for camera, of_camera in scores.items():
        figures |= {f"auc_{camera}": of_camera.auc, f"dp20_{camera}": of_camera.dp20}
    figures["auc_of_cameras"] = float(np.mean([of_camera.auc for of_camera in scores.values()]))
    figures["dp20_of_cameras"] = float(np.mean([of_camera.dp20 for of_camera in scores.values()]))
    return figures


def open_tracking(settings: Any, place: Place, backbone: Frozen | None, choice: Choice) -> Task:
    """The task of a file; errors as its parts."""
    assert isinstance(settings, TrackSettings)  # the table's
    assert backbone is not None  # who opens a task asks the row whether it needs one
    return Tracking(settings, place, backbone, choice)


def rebuilt_tracker(facts: dict[str, Any]) -> nn.Module:
    """The head of recorded facts, its weights still to be loaded."""
    return build_head(facts.get("head", CENTER), **facts["sizes"])  # older files name none
