"""The whole configuration: data sets, stages, run; read from YAML, and its JSON schema.

It has one group per row of the branches' table, whose settings are read from the branches' own files. So this file and
config/fusion.py stand above hvlabel/branches, and the rest of hvlabel/config below it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, create_model, field_validator, model_validator

from hvlabel.branches.table import BRANCHES, CORE_BRANCHES, OPTIONAL_BRANCHES, TABLE, Row
from hvlabel.config.branch import BranchSettings, Surroundings
from hvlabel.config.cube import CubeSettings
from hvlabel.config.dataset import Dataset
from hvlabel.config.downstream import DownstreamSettings
from hvlabel.config.fusion import FusionSettings
from hvlabel.config.pretrain import PretrainSettings
from hvlabel.config.run import RunSettings
from hvlabel.config.teacher import TeacherSettings
from hvlabel.descriptors import is_shipped
from hvlabel.settings import Settings, validated
from hvlabel.walk import unreadable_name
from hvlabel.yaml_file import read_yaml


def _none_if_off(given: object) -> object:
    """None for what says that a branch is off; YAML reads a plain off as false."""
    if given is False or given == "off":
        return None
    if given is True:
        raise ValueError("a group of settings or off is expected; to switch the branch on, leave the line out")
    return given


def _group_of(row: Row) -> tuple[Any, Any]:
    """Type and field of a branch's group."""
    settings: Any = row.settings
    may_be_written = settings | Literal[False, "off"] | None
    group = Annotated[settings | None, BeforeValidator(_none_if_off, json_schema_input_type=may_be_written)]
    return group, Field(settings(), description=f"{row.title}; off, false or null: the branch is left out")


if TYPE_CHECKING:
    BranchGroups: TypeAlias = Settings
else:
    BranchGroups = create_model(
        "BranchGroups", __base__=Settings, __module__=__name__, **{row.name: _group_of(row) for row in TABLE}
    )


class Config(BranchGroups):
    """Everything a run needs."""

    results: str = Field("results", description="folder of all outputs")
    datasets: dict[str, Dataset] = Field(
        description="data set name -> where and how; the name is a folder in the results"
    )
    cube: CubeSettings = CubeSettings()
    fusion: FusionSettings = FusionSettings()
    teacher: TeacherSettings = TeacherSettings()
    pretrain: PretrainSettings = PretrainSettings()
    downstream: DownstreamSettings = DownstreamSettings()
    run: RunSettings = RunSettings()

    def branch(self, name: str) -> BranchSettings | None:
        """The settings of a branch; None: it is off."""
        return getattr(self, name)

    def on(self, branches: Sequence[str]) -> dict[str, BranchSettings]:
        """The settings of those of some branches that are on, in their order."""
        settings = {name: self.branch(name) for name in branches}
        return {name: group for name, group in settings.items() if group is not None}

    def resolved(self) -> Self:
        """The configuration with every backend auto decided by what is at hand now, and the branches that run named."""
        core = {name: settings.resolved() for name, settings in self.on(CORE_BRANCHES).items()}
        optional = self.on(OPTIONAL_BRANCHES)
        around = Surroundings(
            beside_sam=any(settings.backend == "sam" for settings in core.values()),
            has_prompts=any(dataset.has_prompts(name) for name, dataset in self.datasets.items()),
        )
        joining = [name for name, settings in optional.items() if settings.takes_part(around)]
        branches = self.fusion.branches or (*core, *joining)
        joined = {name: optional[name].resolved() for name in branches if name in optional}
        fusion = self.fusion.model_copy(update={"branches": branches})
        teacher = self.teacher.resolved()
        return self.model_copy(update={**core, **joined, "fusion": fusion, "teacher": teacher})

    @field_validator("results")
    @classmethod
    def _home(cls, results: str) -> str:
        # Snakemake takes braces in the path of an output for wildcards
        if "{" in results or "}" in results or unreadable_name(Path(results)):
            raise ValueError("the path may hold no braces and no control characters; choose another folder")
        return str(Path(os.path.expanduser(results)))

    @model_validator(mode="after")
    def _named_branches_are_on(self) -> Self:
        for name in self.fusion.branches or ():
            settings = self.branch(name)
            if settings is None:
                raise ValueError(f"fusion.branches names {name}, but {name} is off; drop one of the two")
            if settings.backend == "off":
                raise ValueError(f"fusion.branches names {name}, but {name}.backend is off; drop one of the two")
        return self

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if not self.fusion.branches and not self.on(CORE_BRANCHES):
            names = " and ".join([", ".join(CORE_BRANCHES[:-1]), CORE_BRANCHES[-1]])
            raise ValueError(
                f"{names} are all off: nothing is left that labels could be made of; leave one of them on, or name "
                f"others in fusion.branches (there are {', '.join(BRANCHES)})"
            )
        return self

    @model_validator(mode="after")
    def _names(self) -> Self:
        if not self.datasets:
            raise ValueError("datasets is empty: name at least one data set")
        for name in self.datasets:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"data set name {name!r}: use letters, digits, '-' and '_' only, it becomes a folder")
        return self


# ---------------------------------------------------------------------------------------------------- reading


def load_config(path: str | Path) -> Config:
    """The validated configuration of a YAML file; ConfigError names file, key and what is known."""
    tree = read_yaml(Path(path))
    return parse_config(beside_config(tree, [Path(path).parent]), source=str(path))


def beside_config(tree: object, folders: Sequence[Path]) -> object:
    """A parsed configuration in which descriptors named by a path are found beside the files that name them.

    folders : of the configuration files; what lies in none of them is sought below the working directory
    """
    datasets = tree.get("datasets") if isinstance(tree, dict) else None
    if not isinstance(datasets, dict):
        return tree
    located = {name: _with_located_descriptor(dataset, folders) for name, dataset in datasets.items()}
    return {**tree, "datasets": located}  # type: ignore[dict-item]


def _with_located_descriptor(dataset: object, folders: Sequence[Path]) -> object:
    """A parsed data set whose descriptor, if it is named by a path, lies in the first of some folders that has it."""
    named = dataset.get("descriptor") if isinstance(dataset, dict) else None
    if not isinstance(named, str) or is_shipped(named):
        return dataset
    candidates = [folder / Path(os.path.expanduser(named)) for folder in folders]
    path = next((str(p) for p in candidates if p.is_file()), named)
    return {**dataset, "descriptor": path}  # type: ignore[dict-item]


def parse_config(tree: object, source: str) -> Config:
    """The validated configuration of a parsed YAML tree. source: name used in error messages."""
    return validated(Config, tree, source)


@cache
def config_schema() -> str:
    """JSON schema of the configuration, as committed in workflow/schemas/config.schema.json."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"
