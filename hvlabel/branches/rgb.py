"""rgb: masks on the RGB rendering of a cube."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from hvlabel.branches.pictures import scored
from hvlabel.config import NetworkBranchSettings, Sam2Model, read_by
from hvlabel.masks import MaskSet, ranked

if TYPE_CHECKING:
    from hvlabel.branches.points import PromptModel
    from hvlabel.cube import Cube


class RgbSettings(NetworkBranchSettings):
    """Masks on the RGB rendering."""

    version: ClassVar[int] = 2

    backend: Literal["auto", "sam", "sam2", "regions"] = Field(
        "auto", description="auto: sam where its weights are at hand, else regions, which needs none"
    )
    sam2: Annotated[Sam2Model | None, read_by("sam2")] = Field(None, description="required by backend sam2")


def run(cube: Cube, settings: RgbSettings, model: PromptModel | None = None) -> MaskSet:
    """Masks of the cube's rgb, best first. model: the loaded network of backend sam or sam2."""
    # imported only here: reading a configuration imports this file, and torch and scikit-image take seconds
    if model is None:
        from hvlabel.branches.regions import multiscale_regions

        picture = cube.rgb.astype(np.float32) / 255
        masks = multiscale_regions(picture, settings.regions, "rgb")
    else:
        from hvlabel.branches.generator import generate_masks

        masks = generate_masks(model, cube.rgb, settings.generator, "rgb")
        if settings.backend == "sam":  # SAM2's masks keep the published score
            masks = [scored(mask) for mask in masks]
    return ranked(masks, cube.height_px, cube.width_px)
