"""Settings of the teacher: features of a frozen RGB network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hvlabel.config.marks import NO_RESULT, read_by
from hvlabel.config.networks import Sam2Model, SamModel
from hvlabel.config.stage import StageSettings
from hvlabel.errors import WeightsError
from hvlabel.settings import Settings


class DinoModel(Settings):
    """A DINOv2 or DINOv3 network in a local folder, as `transformers` saves it."""

    folder: Annotated[str, NO_RESULT] = Field(
        description="folder with config.json and model.safetensors; nothing is downloaded"
    )
    input_px: int = Field(448, ge=16, description="side of the network's input, px; a multiple of its patch")

    def files(self) -> list[Path]:
        """Config and weights; WeightsError if they are not there."""
        folder = Path(os.path.expanduser(self.folder))
        weights = sorted(folder.glob("*.safetensors"))
        if not (folder / "config.json").is_file() or not weights:
            raise WeightsError(
                f"{folder}: expected config.json and *.safetensors of a DINOv2 or DINOv3 network; "
                "save one there with transformers' save_pretrained (DINOv3 has a licence of its own to accept)"
            )
        return [folder / "config.json", *weights]


class TeacherSettings(StageSettings):
    """Features of a frozen RGB network on the picture of every cube."""

    backend: Literal["none", "auto", "sam", "sam2", "dino"] = Field(
        "none",
        description="none: pre-training without distillation; auto: sam where its weights are at hand, else sam2 if "
        "that group is given, else none",
    )
    sam: Annotated[SamModel, read_by("sam")] = Field(
        SamModel(), description="the network of backend sam: its image encoder"
    )
    sam2: Annotated[Sam2Model | None, read_by("sam2")] = Field(
        None, description="required by backend sam2: its image encoder"
    )
    dino: Annotated[DinoModel | None, read_by("dino")] = Field(None, description="required by backend dino")
    tile_px: int = Field(
        512,
        ge=32,
        description="the picture is cut into equal tiles of about this side; the network sees one at a time, px",
    )

    @model_validator(mode="after")
    def _has_model(self) -> Self:
        if self.backend not in ("none", "auto") and getattr(self, self.backend) is None:
            raise ValueError(f"backend {self.backend} needs the group {self.backend}")
        return self

    def resolved(self) -> Self:
        """The settings with backend auto decided."""
        if self.backend != "auto":
            return self
        try:
            self.sam.path()
        except WeightsError:
            return self.model_copy(update={"backend": "none" if self.sam2 is None else "sam2"})
        return self.model_copy(update={"backend": "sam"})

    def chosen(self) -> SamModel | Sam2Model | DinoModel | None:
        """The network of the chosen backend. Backend auto has to be resolved before."""
        return None if self.backend in ("none", "auto") else getattr(self, self.backend)

    def files(self) -> list[Path]:
        """Every file that the network is made from; WeightsError where one is missing."""
        chosen = self.chosen()
        return [] if chosen is None else list(chosen.files())
