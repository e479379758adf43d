"""Settings of downstream tasks: which heads are trained on which backbones, for which tasks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from hvlabel.config.networks import SamModel
from hvlabel.errors import WeightsError
from hvlabel.settings import Settings

PRETRAINED, UNTRAINED = "pretrained", "untrained"
FIRST_WEIGHTS = "untrained:"  # before a path: the network of its sizes, with first weights
OF_PICTURE = "features-rgb"  # the input of a backbone that is shown the picture
OF_BACKBONE = "features"  # how the names of inputs begin that need a backbone
SAM = "sam"  # the network for photographs, fetched once; after a colon, its checkpoint
NO_BACKBONE = "none"  # in names of runs and tables
WEIGHTS = (".safetensors", ".pt", ".pth")
STUDENT = "student.safetensors"  # in the folder of a run


class DownstreamTask(Settings):
    """One task."""

    file: str = Field(description="name in resources/tasks, or path of a task file")
    data: str | None = Field(None, description="folder of images and truth, where they are the user's")


class DownstreamHead(Settings):
    """A head on an input."""

    head: str = Field(description="linear, ladder, unet, runet, agunet, deeplabv3plus, or what the kind of task brings")
    input: str = Field(
        "features",
        description="features, features+cube, features-rgb or features-pixels, of a backbone; cube, pca1, mean or rgb, "
        "without one",
    )


class DownstreamSettings(Settings):
    """Every task with every head on every backbone, for every share of labels and seed."""

    tasks: tuple[DownstreamTask, ...] = Field((DownstreamTask(file="demo_materials"),), description="what is learnt")
    backbones: tuple[str, ...] = Field(
        (PRETRAINED, UNTRAINED),
        min_length=1,
        description="pretrained: the run that the group pretrain names; untrained: the same network with first "
        "weights; sam: the fetched network for photographs, or sam:CHECKPOINT, for inputs features-rgb; or paths of "
        "runs and .safetensors files",
    )
    heads: tuple[DownstreamHead, ...] = Field(
        (DownstreamHead(head="linear"), DownstreamHead(head="linear", input="cube")),
        min_length=1,
        description="what is trained on what it sees: {head: ladder, input: features+cube}",
    )
    labels: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        (100.0,), min_length=1, description="shares of the training labels, per cent"
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1, description="one run each")

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [Path(task.file).stem for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError(
                f"two tasks of one name ({', '.join(names)}): each has a folder of its name; rename one file"
            )
        return self

    @model_validator(mode="after")
    def _sam_has_a_head(self) -> Self:
        has_head = any(head.input == OF_PICTURE for head in self.heads)
        if not has_head and any(is_sam(name) for name in self.backbones):
            raise ValueError(f"backbone sam sees pictures only: add a head with input {OF_PICTURE}")
        return self


@dataclass(frozen=True)
class DownstreamRun:
    """One head that is trained. source: its backbone, None where its input needs none."""

    task: DownstreamTask
    source: str | None
    head: str
    input: str
    labels: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        backbone = backbone_name(self.source) if self.source else NO_BACKBONE
        return run_name(backbone, self.head, self.input, self.labels, self.seed)

    @property
    def folder_or_file(self) -> str | None:
        """What its backbone is read from."""
        return None if self.source is None else self.source.removeprefix(FIRST_WEIGHTS)

    @property
    def files(self) -> list[str]:
        """The file with its backbone's weights; a run's folder holds them under one name.

        None where SAM is named and is not there: the run itself says how it is had, and other targets need it not.
        """
        if self.folder_or_file is None:
            return []
        if is_sam(self.folder_or_file):
            try:
                return [str(path) for path in sam_model(self.folder_or_file).files()]
            except WeightsError:
                return []
        path = Path(os.path.expanduser(self.folder_or_file))
        return [str(path if path.suffix in WEIGHTS else path / STUDENT)]

    @property
    def options(self) -> list[str]:
        """What `hvtrain adapt` is given."""
        words = [self.task.file, "--head", self.head, "--input", self.input]
        words += ["--labels", f"{self.labels:g}", "--seed", str(self.seed)]
        if self.source is not None:
            words += ["--backbone", self.source]
        if self.task.data is not None:
            words += ["--data", self.task.data]
        return words


def runs_of(settings: DownstreamSettings, pretrained: str) -> list[DownstreamRun]:
    """Every run that the settings ask for, once each. pretrained: folder of the pre-training run."""
    sources = {PRETRAINED: pretrained, UNTRAINED: f"{FIRST_WEIGHTS}{pretrained}"}
    runs = []
    for task, head in product(settings.tasks, settings.heads):
        needs_backbone = head.input.startswith(OF_BACKBONE)
        # SAM sees pictures only
        fitting = [name for name in settings.backbones if not is_sam(name) or head.input == OF_PICTURE]
        named = [sources.get(name, name) for name in fitting]
        of_head: list[str | None] = [*named] if needs_backbone else [None]
        for source, labels, seed in product(of_head, settings.labels, settings.seeds):
            runs.append(DownstreamRun(task, source, head.head, head.input, labels, seed))
    return list(dict.fromkeys(runs))


def run_name(backbone: str, head: str, input_name: str, labels: float, seed: int) -> str:
    """Name of a run's folder: everything that tells runs of a task apart."""
    return f"{backbone}.{head}.{input_name}.labels{labels:g}.seed{seed}"


def is_sam(source: str) -> bool:
    """Whether a backbone is SAM: the fetched one, or `sam:` and a checkpoint. A run of that name is `./sam`."""
    return source == SAM or source.startswith(f"{SAM}:")


def sam_model(source: str) -> SamModel:
    """The network that `sam` or `sam:CHECKPOINT` names."""
    _, _, checkpoint = source.partition(":")
    return SamModel(checkpoint=checkpoint) if checkpoint else SamModel()


def backbone_name(source: str) -> str:
    """Name of a backbone in folders and tables: that of its run, or of its file; with `untrained-` before it."""
    if is_sam(source):
        model = sam_model(source)
        return SAM if model.is_fetched else f"{SAM}-{Path(model.checkpoint).stem}"
    path = Path(os.path.expanduser(source.removeprefix(FIRST_WEIGHTS)))
    name = path.parent.name if path.name == STUDENT else path.name
    if path.suffix in WEIGHTS and path.name != STUDENT:
        name = path.stem
    return f"{UNTRAINED}-{name}" if source.startswith(FIRST_WEIGHTS) else name
