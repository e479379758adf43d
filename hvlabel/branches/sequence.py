"""sequence: masks along the false-colour frames of a cube, carried from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from hvlabel.branches.pictures import links
from hvlabel.config import IN_FAST_MODE, NO_RESULT, NetworkBranchSettings, Sam2Model, Tracking, read_by
from hvlabel.masks import Mask, MaskSet, best_masks

if TYPE_CHECKING:
    from hvlabel.branches.discover import BoxModel
    from hvlabel.branches.propagate import TrackModel
    from hvlabel.cube import Cube
    from hvlabel.cube.bands import Frame


class SequenceSettings(NetworkBranchSettings):
    """Masks along the sequence of false-colour frames, bands (k, k+S, k+2S) with S = floor(C/3)."""

    version: ClassVar[int] = 2

    backend: Literal["auto", "sam", "sam2", "regions"] = Field(
        "auto", description="auto: sam where its weights are at hand, else regions, which needs none"
    )
    sam2: Annotated[Sam2Model | None, read_by("sam2")] = Field(None, description="required by backend sam2")
    max_frames: int = Field(8, ge=1, description="frames used, evenly spread over the S possible ones")
    key_frames: Annotated[int, read_by("sam", "sam2")] = Field(
        3,
        ge=1,
        description="frames in which new objects are started; sam2: evenly spread, sam: those that differ most, no "
        "others are used",
    )
    carry: Annotated[bool, read_by("sam")] = Field(
        True, description="sam: objects of earlier frames are carried on by one prompt each"
    )
    objects_per_batch: Annotated[int, NO_RESULT] = Field(
        16, ge=1, description="sam2: objects carried at once; memory only"
    )
    memory_frames: Annotated[int, read_by("sam2"), IN_FAST_MODE] = Field(
        0,
        ge=0,
        description="sam2, generator.mode fast: frames just passed that a track remembers beside the one it started "
        "on; exact: as many as the network's config says",
    )
    max_objects: Annotated[int, read_by("sam2")] = Field(
        64, ge=1, description="sam2: tracks started per key frame at most, best score first"
    )
    new_object_iou: Annotated[float, read_by("sam", "sam2")] = Field(
        0.5,
        ge=0,
        le=1,
        description="sam, sam2: a key frame's mask starts a track unless a track covers it at this mask IoU",
    )
    link_iou: Annotated[float, read_by("regions", "sam")] = Field(
        0.5, gt=0, le=1, description="regions, sam: a mask of another frame at or above this mask IoU supports a mask"
    )
    nms_iou: float = Field(0.8, gt=0, le=1, description="(object, frame) masks above this mask IoU are one")
    max_masks: int = Field(300, ge=1, description="best masks kept per image")

    def tracking(self) -> Tracking:
        """What the network is told; in mode exact it remembers what its config says."""
        memory_frames = self.memory_frames if self.generator.mode == "fast" else None
        return Tracking(self.objects_per_batch, memory_frames)


def run(cube: Cube, settings: SequenceSettings, model: TrackModel | BoxModel | None = None) -> MaskSet:
    """Masks of all frames after the intra-branch NMS, best first. model: the loaded network of backend sam or sam2."""
    # imported only here: reading a configuration imports this file, and zarr, torch and scikit-image take seconds
    from hvlabel.cube.bands import false_colour_frames
    from hvlabel.cube.render import false_colour

    values = cube.values()  # (C, H, W)
    of_live_bands = false_colour_frames(cube.live_wavelengths_nm, settings.max_frames)
    # masks name bands of the whole cube, dead ones counted
    frames = [frame.of_bands(cube.live_bands) for frame in of_live_bands]
    images = [false_colour(values[list(frame.bands)], valid=cube.valid) for frame in frames]  # T x (H, W, 3)
    if model is None:
        from hvlabel.branches.regions import multiscale_regions

        per_frame = [multiscale_regions(image, settings.regions, "sequence") for image in images]
        masks = _linked(per_frame, frames, settings.link_iou)
    elif settings.backend == "sam":
        masks = _discovered(cast("BoxModel", model), images, frames, settings)
    else:
        from hvlabel.branches.propagate import track_objects

        masks = track_objects(cast("TrackModel", model), images, frames, settings)
    best = best_masks(masks, settings.nms_iou, settings.max_masks)
    return MaskSet(cube.height_px, cube.width_px, tuple(best))


def _discovered(
    model: BoxModel, images: Sequence[np.ndarray], frames: Sequence[Frame], settings: SequenceSettings
) -> list[Mask]:
    """All masks of the frames that differ most. images: T x (H, W, 3) float32 in [0, 1]."""
    from hvlabel.branches.discover import discover_objects, most_different
    from hvlabel.cube.render import as_picture

    chosen = most_different(images, settings.key_frames)
    pictures = [as_picture(images[k]) for k in chosen]
    of_pictures = [frames[k] for k in chosen]
    return discover_objects(model, pictures, of_pictures, settings)


def _linked(per_frame: Sequence[Sequence[Mask]], frames: Sequence[Frame], link_iou: float) -> list[Mask]:
    """All masks with their frame, scored by their own score times the mean link over frames, see `links`."""
    pooled: list[Mask] = []
    for masks, frame, link in zip(per_frame, frames, links(per_frame, link_iou), strict=True):
        for mask, met in zip(masks, link.T, strict=True):  # met: (T,) of this mask
            stability = float(met.mean())
            met_on = np.flatnonzero(met).tolist()
            linked = [frames[t].index for t in met_on]
            placed = replace(
                mask,
                score=mask.score * stability,
                stability_score=stability,
                frame=frame.index,
                bands=frame.bands,
                extra={"linked_frames": linked},
            )
            pooled.append(placed)
    return pooled
