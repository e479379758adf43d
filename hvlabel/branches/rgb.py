"""rgb: masks on the RGB rendering of a cube."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hvlabel.branches.pictures import scored
from hvlabel.branches.regions import multiscale_regions
from hvlabel.config import RgbSettings
from hvlabel.cube import Cube
from hvlabel.masks import MaskSet, ranked

if TYPE_CHECKING:
    from hvlabel.branches.points import PromptModel


def run(cube: Cube, settings: RgbSettings, model: PromptModel | None = None) -> MaskSet:
    """Masks of the cube's rgb, best first. model: the loaded network of backend sam or sam2."""
    if model is None:
        regions = multiscale_regions(cube.rgb.astype(np.float32) / 255, settings.regions, "rgb")
        return ranked(regions, cube.height_px, cube.width_px)
    from hvlabel.branches.generator import generate_masks  # only here: torch takes seconds to import

    found = generate_masks(model, cube.rgb, settings.generator, "rgb")
    if settings.backend == "sam":
        found = [scored(m) for m in found]
    return ranked(found, cube.height_px, cube.width_px)
