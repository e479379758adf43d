"""sequence: masks along the false-colour frames of a cube, carried from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from hvlabel.branches.pictures import links
from hvlabel.branches.regions import multiscale_regions
from hvlabel.config import SequenceSettings
from hvlabel.cube import Cube
from hvlabel.cube.bands import Frame, false_colour_frames
from hvlabel.cube.render import as_picture, false_colour
from hvlabel.masks import Mask, MaskSet, best_masks

if TYPE_CHECKING:
    from hvlabel.branches.discover import BoxModel
    from hvlabel.branches.propagate import TrackModel


def run(cube: Cube, settings: SequenceSettings, model: TrackModel | BoxModel | None = None) -> MaskSet:
    """Masks of all frames after the intra-branch NMS, best first. model: the loaded network of backend sam or sam2."""
    values, live = cube.values(), cube.live_bands
    of_live = false_colour_frames(cube.live_wavelengths_nm, settings.max_frames)
    frames = [f.of_bands(live) for f in of_live]
    images = [false_colour(values[list(f.bands)], valid=cube.valid) for f in frames]  # T x (H, W, 3)
    if settings.backend == "sam" and model is not None:
        from hvlabel.branches.discover import (  # only here: torch takes seconds to import
            discover_objects,
            most_different,
        )

        chosen = most_different(images, settings.key_frames)
        pictures = [as_picture(images[k]) for k in chosen]
        found = discover_objects(cast("BoxModel", model), pictures, [frames[k] for k in chosen], settings)
    elif model is None:
        found = _linked(
            [multiscale_regions(image, settings.regions, "sequence") for image in images], frames, settings.link_iou
        )
    else:
        from hvlabel.branches.propagate import track_objects  # only here: torch takes seconds to import

        found = track_objects(cast("TrackModel", model), images, frames, settings)
    return MaskSet(cube.height_px, cube.width_px, tuple(best_masks(found, settings.nms_iou, settings.max_masks)))


def _linked(per_frame: Sequence[Sequence[Mask]], frames: Sequence[Frame], link_iou: float) -> list[Mask]:
    """All masks with their frame, scored by their own score times the mean link over frames, see `links`."""
    pooled: list[Mask] = []
    for masks, frame, met in zip(per_frame, frames, links(per_frame, link_iou), strict=True):
        for mask, link in zip(masks, met.T, strict=True):
            stability = float(link.mean())
            linked = [frames[j].index for j in np.flatnonzero(link).tolist()]
            pooled.append(
                replace(
                    mask,
                    score=mask.score * stability,
                    stability_score=stability,
                    frame=frame.index,
                    bands=frame.bands,
                    extra={"linked_frames": linked},
                )
            )
    return pooled
