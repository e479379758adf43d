"""One run: a head trained on a frozen backbone, from the checkpoint if there is one, and what it is worth."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from filelock import FileLock
from lightning_fabric import Fabric
from torch import Tensor, nn

from hvlabel import __version__
from hvlabel.cache.publish import make_folder, publish_bytes
from hvlabel.config import HardwareSettings, OptimiserSettings
from hvlabel.config.downstream import NO_BACKBONE, run_name
from hvlabel.errors import ConfigError
from hvlabel.models.weights import file_sha256
from hvlabel.settings import validated
from hvtrain.data.batch import Batch
from hvtrain.downstream.contract import Choice, RecipeSettings, Scores, Task, TaskSettings
from hvtrain.downstream.frozen import Frozen, load_frozen
from hvtrain.downstream.head_file import FILE, write_head
from hvtrain.downstream.place import Place
from hvtrain.downstream.plots import draw_confusion
from hvtrain.downstream.table import Row, kind_row
from hvtrain.downstream.task_file import read_task, task_path
from hvtrain.engine.checkpoint import sweep
from hvtrain.engine.devices import keep_sums_the_same, launched
from hvtrain.engine.log import Log
from hvtrain.engine.loop import Loop, Pace
from hvtrain.engine.optimiser import cosine_rate, parameter_groups
from hvtrain.engine.run_folder import RunFiles, is_complete, move_aside, only_one, pretty, read_identity, say

VERSION = 1  # raised by hand when runs of equal settings give other heads
BEST = "best.safetensors"  # of the validations so far
STEP_SEEDS = 1_000_003  # a prime: seeds of runs and their steps do not add up to the same


@dataclass(frozen=True)
class HeadFiles(RunFiles):
    """What lies in the folder of a run; its weights are the head's."""

    @property
    def weights(self) -> Path:
        """The best head; written when the run is complete."""
        return self.folder / FILE

    @property
    def validations(self) -> Path:
        """Scores of the validation part, a line per validation."""
        return self.folder / "validation.json"

    @property
    def tables(self) -> Path:
        """Arrays behind the scores of the test part."""
        return self.folder / "tables.npz"


@dataclass(frozen=True)
class Asked:
    """What the user asks for; none: the task file's."""

    task: str
    backbone: str | None = None
    head: str | None = None
    input: str | None = None
    labels: float = 100.0
    seed: int = 0
    steps: int | None = None
    data: Path | None = None


def adapt(
    asked: Asked, place_of: Callable[[str, Path | None], Place], *, device: str = "auto", threads: int = 2
) -> Path:
    """Train to the last step, keep the best head, score it; returns the run's folder.

    place_of : (name of the task, folder of the data) -> Place
    A finished run of the same settings, images and backbone is left as it is; one of others is moved aside.
    ConfigError, RawFileError, BandError, WeightsError for what is wrong before the start; TrainingError if the loss is
    no number or the backbone did not stay as it was.
    """
    path = task_path(asked.task)
    row, settings = open_file(path, asked.steps)
    choice = Choice(asked.head or settings.head, asked.input or settings.input, asked.labels, asked.seed)
    place = place_of(path.stem, asked.data)
    keep_sums_the_same()
    hardware = HardwareSettings.model_validate({"accelerator": device, "threads": threads, "devices": 1})
    fabric = launched(hardware)
    backbone = _backbone(asked.backbone, row.needs_backbone(settings, choice), choice, fabric)
    make_folder(place.root)
    # runs of one task share its cubes and maps: the first of them makes them, others wait
    with FileLock(place.lock):
        task = row.open(settings, place, backbone, choice)
    files = HeadFiles(place.runs / _folder_name(backbone, choice))
    key = _key(settings, choice, backbone, task)
    make_folder(files.folder.parent)
    with only_one(files, first=True, agree=lambda busy: busy):
        move_aside(files, key)
        if is_complete(files, key):
            publish_bytes(files.facts, pretty(read_identity(files)["facts"]))
            return files.folder
        make_folder(files.folder)
        sweep(files.checkpoint)
        publish_bytes(files.identity, pretty({"key": key, "facts": None}))
        _Run(fabric, files, key, task, settings, choice, backbone, asked, path.stem).finish()
    return files.folder


def open_file(path: Path, steps: int | None = None) -> tuple[Row, TaskSettings]:
    """Kind and settings of a task file; ConfigError says in one sentence what is wrong.

    steps : of the training, instead of the file's
    """
    tree = read_task(path)
    row = kind_row(tree.get("kind"))
    settings = validated(row.settings, tree, str(path))
    if steps is not None:
        recipe = validated(RecipeSettings, {**settings.recipe.model_dump(), "steps": steps}, "--steps")
        settings = settings.model_copy(update={"recipe": recipe})
    return row, settings


def _backbone(source: str | None, needed: bool, choice: Choice, fabric: Fabric) -> Frozen | None:
    """The backbone on the device that computes, or none where the input needs none."""
    if not needed:
        return None
    if source is None:
        raise ConfigError(
            f"input {choice.input} needs a backbone: give --backbone (folder of a run, or a .safetensors file), or "
            "choose input cube, pca1, mean or rgb"
        )
    backbone = load_frozen(source, choice.seed)
    backbone.network.to(fabric.device)
    return backbone


def _folder_name(backbone: Frozen | None, choice: Choice) -> str:
    """Of a run."""
    name = backbone.name if backbone else NO_BACKBONE
    return run_name(name, choice.head, choice.input, choice.labels, choice.seed)


def _key(settings: TaskSettings, choice: Choice, backbone: Frozen | None, task: Task) -> str:
    """Identity of a run. Where images and lists lie is no part of it: what they hold is, by the task's hashes."""
    places: Any = {"title": True, "split": True, "images": {"descriptor", "glob", "cubes", "dataset"}}
    of_settings = settings.model_dump(mode="json", exclude=places)
    weights = backbone.sha256 if backbone else None
    content = json.dumps([VERSION, of_settings, asdict(choice), weights, task.identity()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


class _Log(Log):
    """A log whose curves are drawn once: the loop asks for them at every validation, for longer than it trains."""

    def draw(self) -> None:
        """Not yet."""

    def close(self) -> None:
        """Draw the curves, and write what is held back."""
        super().draw()
        super().close()


class _Objective(nn.Module):
    """A head as the loop trains it. What a step draws depends on the step alone, so that a resumed run is exact."""

    def __init__(self, task: Task, head: nn.Module, seed: int) -> None:
        super().__init__()
        self.head = head
        self._task, self._seed = task, seed

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars of a batch."""
        parameter = next(self.head.parameters())
        devices = [parameter.device] if parameter.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self._seed * STEP_SEEDS + batch.step)
            return self._task.losses(self.head, batch)


class _Run:
    """A run whose folder is this process's own."""

    def __init__(
        self,
        fabric: Fabric,
        files: HeadFiles,
        key: str,
        task: Task,
        settings: TaskSettings,
        choice: Choice,
        backbone: Frozen | None,
        asked: Asked,
        name: str,
    ) -> None:
        self.files, self.key, self.task, self.settings = files, key, task, settings
        self.choice, self.backbone, self.asked, self.name = choice, backbone, asked, name
        self.fabric = fabric
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(choice.seed)
            self.head = task.make_head()

    def finish(self) -> None:
        """All steps that are left, then the best head and its scores."""
        recipe = self.settings.recipe
        optimiser = OptimiserSettings(
            steps=recipe.steps, lr=recipe.lr, warmup_steps=recipe.warmup_steps, weight_decay=recipe.weight_decay
        )
        objective = _Objective(self.task, self.head, self.choice.seed)
        pace = Pace(
            steps=recipe.steps,
            clip_norm=recipe.clip_norm,
            ema=0.0,  # the best validation chooses, no average
            log_every=recipe.log_every,
            checkpoint_every=recipe.steps + 1,  # each stretch up to a validation ends with one
        )
        loop = Loop(
            self.fabric,
            objective,
            self.head,
            groups=parameter_groups(objective, optimiser, ()),
            files=self.files,
            pace=pace,
            facts={"key": self.key},
        )
        loop.resume()
        rate = partial(cosine_rate, settings=optimiser)
        log = _Log(self.files, self.task.terms, first_step=loop.step, n_steps=recipe.steps, active=True)
        with closing(log):
            validated_at = self._play(loop, rate, log)
        self._hand_on(loop.seconds, validated_at)

    def _play(self, loop: Loop, rate: Callable[[int], float], log: Log) -> dict[int, float]:
        """The steps that are left, with a validation where one is due; score by step."""
        recipe = self.settings.recipe
        validated_at = self._validations(loop.step)
        batches = (self.task.batch(step) for step in range(loop.step, recipe.steps))
        while True:
            is_due = loop.step == recipe.steps or loop.step % recipe.validate_every == 0
            # a run may have been killed between a checkpoint and its validation
            if loop.step and is_due and loop.step not in validated_at:
                self._validate(loop.step, validated_at)
            if loop.step == recipe.steps:
                return validated_at
            following = (loop.step // recipe.validate_every + 1) * recipe.validate_every
            loop.play(batches, rate, until=min(following, recipe.steps), log=log)

    def _validations(self, step: int) -> dict[int, float]:
        """Score by step of the validations up to a step."""
        if not self.files.validations.exists():
            return {}
        rows = json.loads(self.files.validations.read_bytes())
        return {row["step"]: row["score"] for row in rows if row["step"] <= step}

    def _validate(self, step: int, validated_at: dict[int, float]) -> None:
        """Score the head; keep it if no earlier one is better."""
        self.head.eval()
        scores = self.task.scores(self.head, "val")
        score = scores.figures[self.task.figure]
        earlier = [-math.inf if math.isnan(value) else value for value in validated_at.values()]
        if not earlier or score > max(earlier):
            publish_bytes(self.files.folder / BEST, safetensors.torch.save(_state(self.head)))
        validated_at[step] = score
        rows = [{"step": at, "score": value} for at, value in validated_at.items()]
        publish_bytes(self.files.validations, (json.dumps(rows, indent=1) + "\n").encode())
        say(f"step {step}: validation {self.task.figure} {score:.4f}")

    def _hand_on(self, seconds: float, validated_at: Mapping[int, float]) -> None:
        """The best head with what it is for, its scores, and at last the facts."""
        self.head.load_state_dict(safetensors.torch.load_file(self.files.folder / BEST))
        self.head.eval()
        start = time.monotonic()
        test = self.task.scores(self.head, "test")
        scoring_s = time.monotonic() - start
        self.task.pictures(self.head, self.files.folder)
        self._keep_tables(test)
        if self.backbone is not None:
            self.backbone.require_unchanged()
        write_head(self.files.weights, self.head, self._head_facts())
        n_head = sum(p.numel() for p in self.head.parameters())
        n_backbone = sum(p.numel() for p in self.backbone.network.parameters()) if self.backbone else 0
        best_step = max(validated_at, key=lambda step: (not math.isnan(validated_at[step]), validated_at[step], -step))
        facts = {
            "key": self.key,
            "task": self.name,
            "kind": self.task.kind,
            "title": self.settings.title,
            "backbone": self.backbone.name if self.backbone else NO_BACKBONE,
            **asdict(self.choice),
            "scores": {"test": test.figures},
            "figure": self.task.figure,
            "best_step": best_step,
            "trainable_parameters": n_head,
            "total_parameters": n_head + n_backbone,
            "seconds": round(seconds, 2),
            "scoring_seconds": round(scoring_s, 3),
            "notes": self.task.notes(),
            "settings": self.settings.model_dump(mode="json"),
            "weights_sha256": file_sha256(self.files.weights),
            "backbone_sha256": self.backbone.sha256 if self.backbone else None,
            "hvlabel_version": __version__,
        }
        publish_bytes(self.files.identity, pretty({"key": self.key, "facts": facts}))
        publish_bytes(self.files.facts, pretty(facts))

    def _keep_tables(self, test: Scores) -> None:
        """Arrays behind the scores, and the confusion matrix drawn."""
        if not test.tables:
            return
        with (self.files.folder / f".{self.files.tables.name}").open("wb") as file:
            np.savez_compressed(file, **test.tables)  # type: ignore[arg-type]
        (self.files.folder / f".{self.files.tables.name}").replace(self.files.tables)
        names = self.task.head_facts().get("classes")
        if "confusion" in test.tables and names:
            draw_confusion(self.files.folder / "confusion.png", test.tables["confusion"], names)

    def _head_facts(self) -> dict[str, Any]:
        """What the head's file says about itself."""
        return {
            "kind": self.task.kind,
            "task": self.name,
            "seed": self.choice.seed,
            "backbone": self.asked.backbone if self.backbone else None,
            "backbone_sha256": self.backbone.sha256 if self.backbone else None,
            **self.task.head_facts(),
        }


def _state(head: nn.Module) -> dict[str, Tensor]:
    """A head's state dict as safetensors takes it: on the CPU, no views."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
