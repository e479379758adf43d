"""Settings of downstream tasks: which heads are trained on which backbones, for which tasks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from hvlabel.settings import Settings

PRETRAINED, UNTRAINED = "pretrained", "untrained"
FIRST_WEIGHTS = "untrained:"  # before a path: the network of its sizes, with first weights
STUDENT = "student.safetensors"  # in the folder of a run


class DownstreamTask(Settings):
    """One task."""

    file: str = Field(description="name in resources/tasks, or path of a task file")
    data: str | None = Field(None, description="folder of images and truth, where they are the user's")


class DownstreamHead(Settings):
    """A head on an input; what is left out is the task file's."""

    head: str | None = Field(None, description="linear, ladder, unet, runet, agunet or deeplabv3plus")
    input: str | None = Field(
        None,
        description="features, features+cube, features-rgb, cube, pca1, mean or rgb; the first three need a backbone",
    )


class DownstreamSettings(Settings):
    """Every task with every head on every backbone, for every share of labels and seed."""

    tasks: tuple[DownstreamTask, ...] = Field((DownstreamTask(file="demo_materials"),), description="what is learnt")
    backbones: tuple[str, ...] = Field(
        (PRETRAINED, UNTRAINED),
        min_length=1,
        description="pretrained: the run that the group pretrain names; untrained: the same network with first weights; "
        "or paths of runs and .safetensors files",
    )
    heads: tuple[DownstreamHead, ...] = Field(
        (DownstreamHead(), DownstreamHead(head="runet", input="cube")), min_length=1, description="heads and inputs"
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


def backbone_name(source: str) -> str:
    """Name of a backbone in folders and tables: that of its run, or of its file; with `untrained-` before it."""
    path = Path(os.path.expanduser(source.removeprefix(FIRST_WEIGHTS)))
    name = path.parent.name if path.name == STUDENT else path.name.removesuffix(path.suffix)
    return f"{UNTRAINED}-{name}" if source.startswith(FIRST_WEIGHTS) else name
