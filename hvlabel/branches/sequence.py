"""sequence: masks along the false-colour frames of a cube, carried from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from hvlabel.branches.regions import multiscale_regions
from hvlabel.config import SequenceSettings
from hvlabel.cube import Cube
from hvlabel.cube.bands import Frame, false_colour_frames
from hvlabel.cube.render import false_colour
from hvlabel.masks import Mask, MaskSet, best_masks, iou_matrix

if TYPE_CHECKING:
    from hvlabel.branches.propagate import TrackModel


def run(cube: Cube, settings: SequenceSettings, model: TrackModel | None = None) -> MaskSet:
    """Masks of all frames after the intra-branch NMS, best first. model: the loaded network of backend sam2."""
    frames = false_colour_frames(cube.wavelengths_nm, settings.max_frames)
    values = cube.values()
    images = [false_colour(values[list(f.bands)]) for f in frames]  # T x (H, W, 3)
    if model is None:
        found = _linked(
            [multiscale_regions(image, settings.regions, "sequence") for image in images], frames, settings.link_iou
        )
    else:
        from hvlabel.branches.propagate import track_objects  # only here: torch takes seconds to import

        found = track_objects(model, images, frames, settings)
    return MaskSet(cube.height_px, cube.width_px, tuple(best_masks(found, settings.nms_iou, settings.max_masks)))


def _linked(per_frame: Sequence[Sequence[Mask]], frames: Sequence[Frame], link_iou: float) -> list[Mask]:
    """All masks with their frame, scored by their own score times the mean link over frames.

    The link to a frame is the best IoU with a mask there if that reaches link_iou, else 0; to its own frame it is 1.
    """
    rles = [[m.rle for m in masks] for masks in per_frame]
    links_of = [np.ones((len(frames), len(masks))) for masks in per_frame]  # (T, N) best IoU on every frame
    for a, b in combinations(range(len(frames)), 2):
        iou = iou_matrix(rles[a], rles[b])
        links_of[a][b], links_of[b][a] = iou.max(axis=1, initial=0), iou.max(axis=0, initial=0)
    found: list[Mask] = []
    for masks, frame, links in zip(per_frame, frames, links_of, strict=True):
        links[links < link_iou] = 0
        for mask, link in zip(masks, links.T, strict=True):
            stability = float(link.mean())
            linked = [frames[j].index for j in np.flatnonzero(link).tolist()]
            found.append(
                replace(
                    mask,
                    score=mask.score * stability,
                    stability_score=stability,
                    frame=frame.index,
                    bands=frame.bands,
                    extra={"linked_frames": linked},
                )
            )
    return found
