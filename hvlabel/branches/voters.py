"""regions: the best classical regions on spectral components, as a voter beside networks.

A network takes an object for one of its parts now and then; a region that is one material does not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from hvlabel.branches.material import spectral_components
from hvlabel.branches.pictures import border_share
from hvlabel.config import BranchSettings, RegionSettings, Surroundings
from hvlabel.masks import Mask, MaskSet, decode, ranked

if TYPE_CHECKING:
    from hvlabel.cube import Cube


class RegionsSettings(BranchSettings):
    """The best classical regions as a voter beside networks, which take objects for their parts now and then."""

    version: ClassVar[int] = 1

    backend: Literal["auto", "regions", "off"] = Field(
        "auto", description="auto: on where another branch runs on sam; off: no such branch"
    )
    n_components: int = Field(
        6, ge=1, le=32, description="whitened spectral components that carry the segmentation, as in material"
    )
    regions: RegionSettings = RegionSettings()
    min_persistence: float = Field(
        0.6, ge=0, le=1, description="regions whose mean IoU with the other scales is lower are left out"
    )
    max_masks: int = Field(40, ge=1, description="best regions kept per image")
    max_border_share: float = Field(
        0.02, ge=0, le=1, description="regions that take more of the image's border are background"
    )
    trust: float = Field(
        0.5, gt=0, le=1, description="factor on their scores: between a network's mask and a region, the mask wins"
    )

    def takes_part(self, around: Surroundings) -> bool:
        """Where it is asked for, and beside SAM: among regions it would only agree with itself."""
        is_useful = self.backend == "auto" and around.beside_sam
        return self.backend == "regions" or is_useful

    def resolved(self) -> Self:
        """The settings of a branch that runs."""
        return self.model_copy(update={"backend": "regions"})


def run(cube: Cube, settings: RegionsSettings) -> MaskSet:
    """The best regions that are no background, best first."""
    # imported only here: reading a configuration imports this file, and scikit-image takes seconds
    from hvlabel.branches.regions import multiscale_regions

    components = spectral_components(cube.live_values(), settings.n_components, cube.valid)
    regions = multiscale_regions(components, settings.regions, "regions")
    best_first = ranked(regions, cube.height_px, cube.width_px).masks
    voters: list[Mask] = []
    for region in best_first:
        if len(voters) == settings.max_masks:
            break
        lasts = region.predicted_iou >= settings.min_persistence  # predicted IoU of a region is its persistence
        # decoding is the costly part: only of regions that last
        if lasts and border_share(decode(region.rle)) <= settings.max_border_share:
            voters.append(replace(region, score=region.score * settings.trust))
    return ranked(voters, cube.height_px, cube.width_px)
