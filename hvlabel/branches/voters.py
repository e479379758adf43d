"""regions: the best classical regions on spectral components, as a voter beside networks.

A network takes an object for one of its parts now and then; a region that is one material does not.
"""

from __future__ import annotations

from dataclasses import replace

from hvlabel.branches.material import spectral_components
from hvlabel.branches.pictures import border_share
from hvlabel.branches.regions import multiscale_regions
from hvlabel.config import RegionsSettings
from hvlabel.cube import Cube
from hvlabel.masks import MaskSet, decode, ranked


def run(cube: Cube, settings: RegionsSettings) -> MaskSet:
    """The best regions that are no background, best first."""
    components = spectral_components(cube.live_values(), settings.n_components, cube.valid)
    best_first = ranked(
        multiscale_regions(components, settings.regions, "regions"), cube.height_px, cube.width_px
    ).masks
    lasting = [m for m in best_first if m.predicted_iou >= settings.min_persistence]
    inner = [m for m in lasting if border_share(decode(m.rle)) <= settings.max_border_share]
    trusted = [replace(m, score=m.score * settings.trust) for m in inner[: settings.max_masks]]
    return ranked(trusted, cube.height_px, cube.width_px)
