"""One run: a head trained on a frozen backbone, from the checkpoint if there is one, and what it is worth."""

from __future__ import annotations

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
from lightning_fabric import Fabric
from torch import Tensor, nn

from hvlabel import __version__
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import OptimiserSettings
from hvlabel.config.downstream import NO_BACKBONE
from hvlabel.models.weights import file_sha256
from hvtrain.data.batch import Batch
from hvtrain.downstream.contract import Choice, Scores, Task, TaskSettings
from hvtrain.downstream.frozen import Frozen
from hvtrain.downstream.head_file import FILE, plain_state, write_head
from hvtrain.downstream.plots import draw_confusion
from hvtrain.engine.log import Log
from hvtrain.engine.loop import Loop, Pace
from hvtrain.engine.optimiser import cosine_rate, parameter_groups
from hvtrain.engine.run_folder import RunFiles, pretty, say

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
class Plan:
    """What a run is about.

    key    : its identity: settings, choice, everything that is read
    name   : of the task
    source : of the backbone, as of load_frozen
    """

    key: str
    name: str
    settings: TaskSettings
    choice: Choice
    backbone: Frozen | None
    source: str | None


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
        devices = [parameter.device] if parameter.is_cuda else []  # whose generators are put back afterwards
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self._seed * STEP_SEEDS + batch.step)
            return self._task.losses(self.head, batch)


class HeadRun:
    """A run whose folder is this process's own."""

    def __init__(self, fabric: Fabric, files: HeadFiles, task: Task, plan: Plan) -> None:
        self.fabric, self.files, self.task, self.plan = fabric, files, task, plan
        # a generator of its own: the draws of whoever calls stay as they are
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.choice.seed)
            self.head = task.make_head()

    def finish(self) -> None:
        """All steps that are left, then the best head and its scores."""
        recipe = self.plan.settings.recipe
        optimiser = OptimiserSettings(
            steps=recipe.steps, lr=recipe.lr, warmup_steps=recipe.warmup_steps, weight_decay=recipe.weight_decay
        )
        objective = _Objective(self.task, self.head, self.plan.choice.seed)
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
            facts={"key": self.plan.key},
        )
        loop.resume()
        rate = partial(cosine_rate, settings=optimiser)
        log = _Log(self.files, self.task.terms, first_step=loop.step, n_steps=recipe.steps, active=True)
        with closing(log):  # the curves of a run that fails, too
            validated_at = self._play(loop, rate, log)
        self._hand_on(loop.seconds, validated_at)

    def _play(self, loop: Loop, rate: Callable[[int], float], log: Log) -> dict[int, float]:
        """The steps that are left, with a validation where one is due; score by step."""
        recipe = self.plan.settings.recipe
        validated_at = self._validations(loop.step)
        left = range(loop.step, recipe.steps)
        batches = (self.task.batch(step) for step in left)
        while True:
            is_last = loop.step == recipe.steps
            is_due = is_last or loop.step % recipe.validate_every == 0
            # a run may have been killed between a checkpoint and its validation
            if loop.step and is_due and loop.step not in validated_at:
                self._validate(loop.step, validated_at)
            if is_last:
                return validated_at
            n_before = loop.step // recipe.validate_every
            following = (n_before + 1) * recipe.validate_every
            until = min(following, recipe.steps)
            loop.play(batches, rate, until=until, log=log)

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
        # nan: nothing is labelled, as in HS3-Bench
        earlier = [-math.inf if math.isnan(value) else value for value in validated_at.values()]
        # the first is kept whatever its score: there is always a head to hand on
        if not earlier or score > max(earlier):
            best = safetensors.torch.save(plain_state(self.head))
            publish_bytes(self.files.folder / BEST, best)
        validated_at[step] = score
        rows = [{"step": at, "score": value} for at, value in validated_at.items()]
        text = json.dumps(rows, indent=1) + "\n"
        # after the head: a run killed between the two validates this step again
        publish_bytes(self.files.validations, text.encode())
        say(f"step {step}: validation {self.task.figure} {score:.4f}")

    def _hand_on(self, seconds: float, validated_at: Mapping[int, float]) -> None:
        """The best head with what it is for, its scores, and at last the facts."""
        # not the last step's: validation has chosen
        best = safetensors.torch.load_file(self.files.folder / BEST)
        self.head.load_state_dict(best)
        self.head.eval()
        start = time.monotonic()
        test = self.task.scores(self.head, "test")
        scoring_s = time.monotonic() - start
        self.task.pictures(self.head, self.files.folder)
        self._keep_tables(test)
        # before anything is handed on: a head whose backbone moved would score what nobody can repeat
        backbone = self.plan.backbone
        if backbone is not None:
            backbone.require_unchanged()
        write_head(self.files.weights, self.head, self._head_facts())
        n_head = _n_parameters(self.head)
        n_backbone = _n_parameters(backbone.network) if backbone else 0

        def worth(step: int) -> tuple[bool, float, int]:
            # a score that is no number is worse than any other; of equal ones the first step counts
            score = validated_at[step]
            return not math.isnan(score), score, -step

        best_step = max(validated_at, key=worth)
        facts = {
            "key": self.plan.key,
            "task": self.plan.name,
            "kind": self.task.kind,
            "title": self.plan.settings.title,
            "backbone": backbone.name if backbone else NO_BACKBONE,
            **asdict(self.plan.choice),
            "scores": {"test": test.figures},
            "figure": self.task.figure,
            "best_step": best_step,
            "trainable_parameters": n_head,
            "total_parameters": n_head + n_backbone,
            "seconds": round(seconds, 2),
            "scoring_seconds": round(scoring_s, 3),
            "notes": self.task.notes(),
            "settings": self.plan.settings.model_dump(mode="json"),
            "weights_sha256": file_sha256(self.files.weights),
            "backbone_sha256": backbone.sha256 if backbone else None,
            "hvlabel_version": __version__,
        }
        finished = {"key": self.plan.key, "facts": facts}
        publish_bytes(self.files.identity, pretty(finished))
        publish_bytes(self.files.facts, pretty(facts))

    def _keep_tables(self, test: Scores) -> None:
        """Arrays behind the scores, and the confusion matrix drawn."""
        if not test.tables:
            return
        temporary = self.files.folder / f".{self.files.tables.name}"
        with temporary.open("wb") as file:
            np.savez_compressed(file, **test.tables)  # type: ignore[arg-type]
        temporary.replace(self.files.tables)
        names = self.task.head_facts().get("classes")
        if "confusion" in test.tables and names:
            confusion = test.tables["confusion"]
            draw_confusion(self.files.folder / "confusion.png", confusion, names)

    def _head_facts(self) -> dict[str, Any]:
        """What the head's file says about itself."""
        backbone = self.plan.backbone
        return {
            "kind": self.task.kind,
            "task": self.plan.name,
            "seed": self.plan.choice.seed,  # untrained: the backbone's first weights are drawn from it
            "backbone": self.plan.source if backbone else None,
            "backbone_sha256": backbone.sha256 if backbone else None,
            **self.task.head_facts(),
        }


def _n_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
