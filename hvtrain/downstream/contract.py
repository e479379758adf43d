"""What a kind of downstream task is. A new one is a file beside this one with a subclass of `Task`, a row in `table`.

A task file (resources/tasks/*.yaml) says which kind it is of, where images and truth lie, how they are split, and how
a head is trained. The engine (`adapt`) sees only this page: it asks for a head, for the batch of a step, for its loss,
for scores of a part of the images, and keeps the weights of the best step. The backbone is frozen: a task gets maps
of it from `maps`, which are encoded once and then read from the cache.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from hvlabel.settings import Settings
from hvtrain.data.batch import Batch

Part = Literal["train", "val", "test"]


class RecipeSettings(Settings):
    """How a head is trained; the defaults suit some dozen images on two cores."""

    steps: int = Field(400, ge=1, description="optimiser steps")
    batch_images: int = Field(8, ge=1, description="samples per step")
    lr: float = Field(1e-3, gt=0, le=10, description="peak learning rate of AdamW")
    weight_decay: float = Field(1e-4, ge=0, description="on matrices; none on biases and norms")
    warmup_steps: int = Field(20, ge=0, description="steps of linear rise, before half a cosine down to a hundredth")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    validate_every: int = Field(100, ge=1, description="steps between scores of the validation part; the best is kept")
    log_every: int = Field(20, ge=1, description="steps per row of metrics.csv")


class TaskSettings(Settings):
    """What every task file says; kinds add groups of their own."""

    kind: str = Field(description="row of hvtrain/downstream/table.py")
    title: str = Field(description="what it is about, for tables")
    head: str = Field(description="head where none is chosen; a row of hvtrain/heads/table.py")
    input: str = Field("features", description="input where none is chosen")
    recipe: RecipeSettings = RecipeSettings()


@dataclass(frozen=True)
class Choice:
    """What one run is about, beside its task and its backbone.

    labels : per cent of the training labels that are used
    """

    head: str
    input: str
    labels: float = 100.0
    seed: int = 0


@dataclass(frozen=True)
class Scores:
    """Of one part of the images.

    figures : what tables show, by name; nan where there is nothing to measure
    tables  : arrays behind them, kept beside the run as .npz, e.g. the confusion matrix
    """

    figures: dict[str, float]
    tables: dict[str, np.ndarray] = field(default_factory=dict)


class Task(ABC):
    """A task file on one backbone for one choice: samples, head, loss, scores.

    kind   : its row in the table
    figure : name of the score by which the best step is kept; higher is better
    terms  : scalars that `losses` may give, for the log
    """

    kind: ClassVar[str]
    figure: ClassVar[str]
    terms: ClassVar[tuple[str, ...]]

    @abstractmethod
    def make_head(self) -> nn.Module:
        """The head with its first weights, drawn from torch's generator."""

    @abstractmethod
    def head_facts(self) -> dict[str, Any]:
        """What making the head again, and predicting with it, needs; as JSON can hold it."""

    @abstractmethod
    def batch(self, step: int) -> Batch:
        """Samples of a step of training, with fields of the task's own: a pure function of seed and step."""

    @abstractmethod
    def losses(self, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalars of a batch, among them `loss`."""

    @abstractmethod
    def scores(self, head: nn.Module, part: Part) -> Scores:
        """Of a head in evaluation mode on a part of the images; val is the training part where there is none."""

    @abstractmethod
    def identity(self) -> list[str]:
        """Hashes of everything that training reads: a run of other images or truth is another run."""

    def notes(self) -> dict[str, Any]:
        """What run.json says besides: images per part, how near test frames lie to training frames."""
        return {}

    def pictures(self, head: nn.Module, folder: Path) -> None:
        """Draw examples of the test part; tasks that have none draw nothing."""
        del head, folder
