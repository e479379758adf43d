"""One data set of a configuration: where its raw files are and how they are read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from hvlabel.descriptors import (
    Companion,
    Descriptor,
    WavelengthRange,
    as_rule,
    load_descriptor,
    require_centres_nm,
)
from hvlabel.settings import Settings

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
    allow_outside: bool = Field(
        False,
        description="whether links below root, and companions, may lead out of it, e.g. to another disk. A descriptor "
        "cannot allow it: it may come from elsewhere",
    )
    demo: Camera | None = Field(None, description="generate demo scenes of this camera instead of reading own files")
    demo_scenes: int = Field(3, ge=1, description="demo: number of scenes")
    demo_size_px: int = Field(256, ge=64, le=2048, description="demo: height and width, px")
    demo_seed: int = Field(2026, ge=0, description="demo: seed of the scenes")

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a switch that is off: the text of a data set is part of what demo scenes and jobs are known by."""
        tree: dict[str, Any] = handler(self)
        if not self.allow_outside:
            tree.pop("allow_outside", None)
        return tree

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        needed = (self.root, self.descriptor)
        of_files = (*needed, self.glob, self.every, self.wavelengths_nm, self.prompts, self.allow_outside or None)
        given = [g for g in of_files if g is not None]
        if self.demo is None and None in needed:
            raise ValueError("a data set needs root and descriptor (or demo: a camera name)")
        if self.demo is not None and given:
            raise ValueError("demo scenes bring their own root, glob, descriptor and bands; leave them out")
        require_centres_nm(self.wavelengths_nm)
        return self

    def described(self, name: str) -> Descriptor:
        """The descriptor with this data set's own settings put in; ConfigError where it cannot be found.

        name : of the data set
        """
        assert self.descriptor is not None  # the validator; demo scenes have none
        return load_descriptor(name, self.descriptor).with_own(self.every, self.wavelengths_nm, self.prompts)

    def has_prompts(self, name: str) -> bool:
        """Whether files beside the images say what to segment. name: of the data set."""
        return self.demo is None and any(f.prompts is not None for f in self.described(name).forms)
