"""What a task file says of images, truth and split; kinds of tasks share these groups."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from hvlabel.config import Dataset
from hvlabel.descriptors import Descriptor
from hvlabel.errors import ConfigError
from hvlabel.settings import Settings
from hvlabel.yaml_file import read_yaml

SHIPPED = Path(__file__).resolve().parents[2] / "resources" / "tasks"
NAME = "{name}"  # in the path of a truth file


class ImagesSettings(Settings):
    """Where the images come from: one of descriptor, cubes, dataset and demo."""

    descriptor: str | Descriptor | None = Field(
        None, description="raw files in the folder of the data, read by this descriptor (a name, a path, or itself)"
    )
    cubes: bool = Field(False, description="cubes (.zarr) in the folder of the data")
    dataset: str | None = Field(None, description="cubes of this data set of the results folder")
    demo: Dataset | None = Field(None, description="scenes to be generated: {demo: vis31, demo_scenes: 24}")
    glob: str | None = Field(None, description="which raw files are images; none: what the descriptor says")
    remove: tuple[str, ...] = Field(
        (), description="parts of file names that are no part of an image's name in lists and names of truth files"
    )
    every_px: int = Field(1, ge=1, description="every n-th pixel of cube and truth, nearest; 2: half size")
    gsd_m: float = Field(1.0, gt=0, description="ground sampling distance, m per pixel")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        named = (self.descriptor, self.dataset, self.demo)
        n_sources = self.cubes + sum(source is not None for source in named)
        if n_sources != 1:
            raise ValueError("give one of descriptor, cubes, dataset and demo")
        if self.demo is not None and self.demo.demo is None:
            raise ValueError("demo needs the name of a camera: {demo: vis31}")
        return self

    @property
    def needs_data(self) -> bool:
        """Whether the user has to name a folder."""
        return self.descriptor is not None or self.cubes


class TruthSettings(Settings):
    """Where the truth of an image lies: a picture, a variable of a MATLAB file, or the demo's own."""

    file: str | None = Field(
        None,
        description="end of the path of its PNG, TIFF or .mat file below the folder of the data, with {name} of the "
        "image: labels/{name}.png; none with a variable: the raw file itself",
    )
    variable: str | None = Field(None, description="variable of a MATLAB file, (H, W) or (W, H) as the cube's data")
    demo: bool = Field(False, description="material classes of generated scenes")
    transpose: bool = Field(False, description="its rows are the columns of the upright cube")
    mapping: dict[int, int] = Field(
        {}, description="stored value -> class; every rule sees the stored map, values without a rule stay"
    )
    ignore_index: int = Field(255, ge=0, description="value, after the mapping, of pixels that do not count")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if not (self.file or self.variable or self.demo):
            raise ValueError("give file, variable or demo: there is no truth otherwise")
        if self.file is not None:
            require_name_only(self.file)
        return self


def require_name_only(file: str) -> None:
    """ValueError for a path of truth with anything else in braces than the image's name."""
    if "{" in file.replace(NAME, ""):
        raise ValueError(f"file {file!r} may use {NAME} only")


class OrderSettings(Settings):
    """What the names of frames tell about their order: how near frames of different parts lie is reported."""

    pattern: str = Field(description="regular expression with one group: a number, or a time")
    time: str | None = Field(None, description="how a time is written, e.g. %Y%m%d_%H%M%S; none: a number")
    near: float = Field(description="frames not farther apart than this (numbers, or seconds) are near")
    scene_gap: float = Field(description="a new scene begins after a gap larger than this")

    @model_validator(mode="after")
    def _one_group(self) -> Self:
        try:
            n_groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is no regular expression ({error})") from error
        if n_groups != 1:
            raise ValueError(f"pattern {self.pattern!r} needs one group in parentheses, it has {n_groups}")
        return self

    def position(self, name: str) -> float:
        """Of a frame; ConfigError for a name that does not tell it."""
        match = re.search(self.pattern, name)
        try:
            if match is None:
                raise ValueError("no match")
            if self.time is None:
                return float(match[1])
            # without a time zone: a clock change inside a drive would be an hour's gap, which parts scenes at worst
            return datetime.strptime(match[1], self.time).timestamp()
        except ValueError as error:
            raise ConfigError(
                f"image {name}: its name does not tell its place by split.order.pattern {self.pattern!r} ({error}); "
                "correct the pattern or leave the group out"
            ) from error


class SplitSettings(Settings):
    """Which images are in which part: by lists, or by shares."""

    lists: dict[Literal["train", "val", "test"], str] | None = Field(
        None, description="files with one image a line (name, or file name), beside the task file"
    )
    shares: dict[Literal["train", "val", "test"], float] = Field(
        {"train": 0.6, "val": 0.2, "test": 0.2}, description="without lists: shares of the images"
    )
    by: Literal["frame", "scene"] = Field(
        "frame",
        description="scene: frames of one scene (split.order) stay together, in shares as large as those of the lists",
    )
    seed: int = Field(0, ge=0, description="of the draw")
    order: OrderSettings | None = None
    allow_missing: bool = Field(False, description="listed images that are not there are left out")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        total = sum(self.shares.values())
        if abs(total - 1) > 1e-6 or min(self.shares.values()) < 0:
            raise ValueError(f"shares must be at least 0 and add up to 1, not {total:g}")
        if self.by == "scene" and self.order is None:
            raise ValueError("by: scene needs the group order, which tells scenes apart")
        return self


def task_path(name: str) -> Path:
    """The file of a task: a name in resources/tasks, or a path; ConfigError if there is neither."""
    shipped = SHIPPED / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    path = Path(os.path.expanduser(name))
    if not path.is_file():
        names = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
        known = ", ".join(names)
        raise ConfigError(f"no task {name!r}; known: {known}; or give the path of a YAML file")
    return path


def read_task(path: Path) -> dict[str, Any]:
    """The tree of a task file, with paths of lists and descriptor beside it; ConfigError if it is no mapping."""
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, not {type(tree).__name__}")
    # paths in a task file start at the file, so that its folder can be moved as a whole
    split, images = tree.get("split"), tree.get("images")
    if isinstance(split, dict) and isinstance(split.get("lists"), dict):
        lists = {part: str(path.parent / str(name)) for part, name in split["lists"].items()}
        tree = tree | {"split": split | {"lists": lists}}
    if isinstance(images, dict) and isinstance(images.get("descriptor"), str):
        beside = path.parent / images["descriptor"]
        if beside.is_file():
            tree = tree | {"images": images | {"descriptor": str(beside)}}
    return tree
