"""The whole configuration: data sets, stages, run; read from YAML, and its JSON schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hvlabel.config.labels import (
    BRANCHES,
    Branch,
    CubeSettings,
    FusionSettings,
    MaterialSettings,
    PromptsSettings,
    RegionsSettings,
    RgbSettings,
    SequenceSettings,
)
from hvlabel.config.pretrain import PretrainSettings, TeacherSettings
from hvlabel.descriptors import (
    Companion,
    Descriptor,
    WavelengthRange,
    as_rule,
    is_shipped,
    load_descriptor,
    require_centres_nm,
)
from hvlabel.errors import ConfigError
from hvlabel.settings import S, Settings, read_yaml, validated

Camera = Literal["mosaic16", "nir25", "vis31", "vnir61", "vnir128"]


class Dataset(Settings):
    """One data set: where its raw files are and how they are read."""

    root: str | None = Field(None, description="folder of the raw files; relative paths start at the working directory")
    glob: str | None = Field(
        None, description="which files below root are images, e.g. **/*.hdr; none: what the descriptor's `files` say"
    )
    descriptor: str | Descriptor | None = Field(
        None,
        description="name in resources/datasets, path of a YAML file (beside the configuration, else below the working "
        "directory), or the descriptor itself",
    )
    every: int | None = Field(None, ge=1, description="every n-th file of a folder is an image; none: the descriptor's")
    wavelengths_nm: list[float] | WavelengthRange | None = Field(
        None, description="calibrated band centres in file order, nm, instead of the descriptor's"
    )
    prompts: Annotated[Companion | None, BeforeValidator(as_rule, json_schema_input_type=str | Companion | None)] = (
        Field(None, description="file with boxes, points or masks of each image, instead of the descriptor's rule")
    )
    demo: Camera | None = Field(None, description="generate demo scenes of this camera instead of reading own files")
    demo_scenes: int = Field(3, ge=1, description="demo: number of scenes")
    demo_size_px: int = Field(256, ge=64, le=2048, description="demo: height and width, px")
    demo_seed: int = Field(2026, ge=0, description="demo: seed of the scenes")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        own = (self.root, self.descriptor)
        if self.demo is None and None in own:
            raise ValueError("a data set needs root and descriptor (or demo: a camera name)")
        if self.demo is not None and (*own, self.glob, self.every, self.wavelengths_nm, self.prompts) != (None,) * 6:
            raise ValueError("demo scenes bring their own root, glob, descriptor and bands; leave them out")
        require_centres_nm(self.wavelengths_nm)
        return self

    def described(self, name: str) -> Descriptor:
        """The descriptor with this data set's own settings put in; ConfigError where it cannot be found. name: of the data set."""
        assert self.descriptor is not None  # the validator; demo scenes have none
        return load_descriptor(name, self.descriptor).with_own(self.every, self.wavelengths_nm, self.prompts)

    def has_prompts(self, name: str) -> bool:
        """Whether files beside the images say what to segment. name: of the data set."""
        return self.demo is None and any(f.prompts is not None for f in self.described(name).forms)


class RunSettings(Settings):
    """How a run is cut into jobs; nothing here changes a result."""

    shard_size: int = Field(64, ge=1, description="images per job")
    max_failed_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of failed images above which a run ends with an error, after all others are done",
    )
    threads: int = Field(1, ge=1, description="threads per job")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where learned models run; auto: a GPU when there is one"
    )


class Config(Settings):
    """Everything a run needs."""

    results: str = Field("results", description="folder of all outputs")
    datasets: dict[str, Dataset] = Field(
        description="data set name -> where and how; the name is a folder in the results"
    )
    cube: CubeSettings = CubeSettings()
    rgb: RgbSettings = RgbSettings()
    sequence: SequenceSettings = SequenceSettings()
    material: MaterialSettings = MaterialSettings()
    regions: RegionsSettings = RegionsSettings()
    prompts: PromptsSettings = PromptsSettings()
    fusion: FusionSettings = FusionSettings()
    teacher: TeacherSettings = TeacherSettings()
    pretrain: PretrainSettings = PretrainSettings()
    run: RunSettings = RunSettings()

    def resolved(self) -> Self:
        """The configuration with every backend auto decided by what is at hand now, and the branches that run named."""
        decided = {name: getattr(self, name).resolved() for name in (*BRANCHES, "teacher")}
        branches: list[Branch] = ["rgb", "sequence", "material"]
        beside_sam = any(decided[name].backend == "sam" for name in BRANCHES)
        if self.regions.backend == "regions" or (self.regions.backend == "auto" and beside_sam):
            branches.append("regions")
        if self.prompts.backend != "off" and any(d.has_prompts(name) for name, d in self.datasets.items()):
            branches.append("prompts")
        fusion = self.fusion.model_copy(update={"branches": self.fusion.branches or tuple(branches)})
        for name in ("regions", "prompts"):
            if name in (fusion.branches or ()):
                decided[name] = getattr(self, name).resolved()
        return self.model_copy(update={**decided, "fusion": fusion})

    @field_validator("results")
    @classmethod
    def _home(cls, results: str) -> str:
        return str(Path(results).expanduser())

    @model_validator(mode="after")
    def _named_branches_are_on(self) -> Self:
        off = [name for name in self.fusion.branches or () if getattr(self, name).backend == "off"]
        if off:
            raise ValueError(f"fusion.branches names {off[0]}, but {off[0]}.backend is off; drop one of the two")
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
    return parse_config(beside_config(read_yaml(Path(path)), [Path(path).parent]), source=str(path))


def beside_config(tree: object, folders: Sequence[Path]) -> object:
    """A parsed configuration in which descriptors named by a path are found beside the files that name them.

    folders : of the configuration files; what lies in none of them is sought below the working directory
    """
    datasets = tree.get("datasets") if isinstance(tree, dict) else None
    if not isinstance(datasets, dict):
        return tree
    found: dict[str, object] = {}
    for name, dataset in datasets.items():
        named = dataset.get("descriptor") if isinstance(dataset, dict) else None
        if isinstance(named, str) and not is_shipped(named):
            places = [folder / Path(named).expanduser() for folder in folders]
            path = next((str(p) for p in places if p.is_file()), named)
            found[name] = {**dataset, "descriptor": path}
        else:
            found[name] = dataset
    return {**tree, "datasets": found}  # type: ignore[dict-item]


def parse_config(tree: object, source: str) -> Config:
    """The validated configuration of a parsed YAML tree. source: name used in error messages."""
    return validated(Config, tree, source)


def parse_stage(model: type[S], text: str) -> S:
    """Settings of one stage from JSON as the workflow passes it (a `version` entry is ignored)."""
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"settings are not JSON ({error}); pass what the workflow passes, or use --config") from error
    if isinstance(tree, dict):
        tree.pop("version", None)
    return validated(model, tree, f"{model.__name__} given as JSON")


@cache
def config_schema() -> str:
    """JSON schema of the configuration, as committed in workflow/schemas/config.schema.json."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"
