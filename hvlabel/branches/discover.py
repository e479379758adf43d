"""Objects found on several frames of a cube by a network without memory: the frames are registered, so nothing moves.

What a further frame adds is objects that the earlier ones do not show. Those already found are carried on by one prompt
each - the last logits and the first box, which stays, since boxes taken from masks drift - and need no grid point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from hvlabel.branches.generator import generate_masks
from hvlabel.branches.pictures import confirmed, scored
from hvlabel.branches.points import PromptModel
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.config import GeneratorSettings
from hvlabel.cube.bands import Frame
from hvlabel.masks import Mask, Rle, boxes_xyxy, decode, encode, interior_point, iou_matrix

THUMBNAIL_PX = 64  # frames are compared at this size


class BoxModel(PromptModel, Protocol):
    """A prompt model that also decodes a box, with the logits of an earlier call or without."""

    def decode_clear(
        self, embedding: Any, boxes_xyxy: np.ndarray, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One mask per box (N, 4): low-resolution logits (N, h, w) and predicted IoU (N,)."""

    def mask_prompt(self, masks: np.ndarray, embedding: Any) -> Tensor:
        """(N, h, w) low-resolution logits that ask for (N, H, W) bool masks."""


@dataclass
class Track:
    """An object on its way along the frames.

    box_xyxy : (4,) px, of its first mask
    prior    : (h, w) low-resolution logits that its next prompt starts from
    last     : its latest mask
    """

    object_id: int
    start: Frame
    box_xyxy: np.ndarray
    prior: Tensor
    last: Rle


def discover_objects(
    model: BoxModel, pictures: Sequence[np.ndarray], frames: Sequence[Frame], settings: SequenceSettings
) -> list[Mask]:
    """All masks of all frames, unsuppressed.

    pictures : T x (H, W, 3) uint8 of registered frames
    A mask's extra says which object it is, on which frame that began, and on how many frames the mask was confirmed.
    """
    tracks: list[Track] = []
    per_frame: list[list[Mask]] = []
    for picture, frame in zip(pictures, frames, strict=True):
        embedding = model.embed(picture)
        carried: list[Mask] = []
        if settings.carry:
            carried = carry(model, embedding, tracks, settings.generator, settings.link_iou)
        known = [decode(mask.rle) for mask in carried]
        generated = generate_masks(model, picture, settings.generator, "sequence", embedding, known)
        on_frame = list(carried)
        nearest_carried = _nearest(generated, carried, settings.new_object_iou)
        for mask, nearest in zip(generated, nearest_carried, strict=True):
            if nearest is not None:
                on_frame.append(replace(mask, extra=nearest.extra))
                continue
            track = _track(model, embedding, mask, frame, len(tracks))
            tracks.append(track)
            on_frame.append(replace(mask, extra=_origin(track)))
        placed = [replace(mask, frame=frame.index, bands=frame.bands) for mask in on_frame]
        per_frame.append([scored(mask) for mask in placed])
    return confirmed(per_frame, settings.link_iou)


def carry(
    model: BoxModel, embedding: Any, tracks: Sequence[Track], settings: GeneratorSettings, link_iou: float
) -> list[Mask]:
    """The tracks' masks on another frame, where the network is sure of them; those tracks go on from there.

    link_iou : least IoU with a track's latest mask
    """
    if not tracks:
        return []
    boxes = np.stack([track.box_xyxy for track in tracks])
    priors = torch.stack([track.prior for track in tracks])
    logits, iou = model.decode_clear(embedding, boxes, priors)
    carried = []
    for k, track in enumerate(tracks):
        if float(iou[k]) <= settings.pred_iou_thresh:
            continue
        # one at a time: all tracks of a large image at full size would take gigabytes
        full = model.upscale(logits[k : k + 1], embedding)[0]  # (H, W)
        stability = _stability(full, settings)
        mask = (full > settings.mask_threshold).cpu().numpy()
        if stability < settings.stability_score_thresh or not mask.any():
            continue
        rle = encode(mask)
        iou_with_last = iou_matrix([rle], [track.last])[0, 0]
        if iou_with_last < link_iou:
            continue
        track.prior, track.last = logits[k], rle
        on_frame = Mask(
            rle,
            score=0.0,  # given once its frame's masks are together
            branch="sequence",
            point_xy=interior_point(mask),
            predicted_iou=float(iou[k]),
            stability_score=stability,
            extra=_origin(track),
        )
        carried.append(on_frame)
    return carried


def _nearest(generated: Sequence[Mask], carried: Sequence[Mask], least_iou: float) -> list[Mask | None]:
    """Per generated mask the carried one that it is another mask of; None where it shows a new object."""
    if not carried:
        return [None] * len(generated)
    generated_rles = [mask.rle for mask in generated]
    carried_rles = [mask.rle for mask in carried]
    overlap = iou_matrix(generated_rles, carried_rles)  # (generated, carried)
    best = overlap.argmax(axis=1)
    nearest: list[Mask | None] = []
    for k, iou in zip(best, overlap, strict=True):
        nearest.append(carried[k] if iou[k] >= least_iou else None)
    return nearest


def _stability(logits: Tensor, settings: GeneratorSettings) -> float:
    """IoU of the masks of (H, W) logits at a higher and a lower threshold; 0 where both are empty."""
    threshold, offset = settings.mask_threshold, settings.stability_score_offset
    # the smaller mask lies in the larger one: their areas are intersection and union
    smaller_px = int((logits > threshold + offset).sum())
    larger_px = int((logits > threshold - offset).sum())
    return smaller_px / max(larger_px, 1)


def _track(model: BoxModel, embedding: Any, mask: Mask, frame: Frame, object_id: int) -> Track:
    """A track that begins with a mask."""
    pixels = decode(mask.rle)  # (H, W)
    prior = model.mask_prompt(pixels[None], embedding)[0]
    box_xyxy = boxes_xyxy([mask.rle])[0]
    return Track(object_id, frame, box_xyxy, prior, last=mask.rle)


def _origin(track: Track) -> dict[str, int]:
    """What a mask's extra says of its object."""
    return {"object": track.object_id, "start_frame": track.start.index}


def most_different(pictures: Sequence[np.ndarray], n_chosen: int) -> list[int]:
    """Up to n_chosen positions of pictures that differ most, in rising order.

    pictures : T x (H, W, 3), any unit
    The first is the middle one; each further one is the farthest from all chosen so far. Their distance is the mean
    absolute difference of thumbnails whose channels have mean 0 and deviation 1.
    """
    looks = np.stack([_look(picture) for picture in pictures])  # (T, values)
    chosen = [len(pictures) // 2]
    while len(chosen) < min(n_chosen, len(pictures)):
        differences = np.abs(looks[:, None] - looks[chosen])  # (T, chosen, values)
        distances = differences.mean(axis=2)
        nearest = distances.min(axis=1)
        nearest[chosen] = -1  # equal pictures have distance 0, and are still to be chosen
        chosen.append(int(nearest.argmax()))
    return sorted(chosen)


def _look(picture: np.ndarray) -> np.ndarray:
    """(values,) float32 thumbnail of a picture, its channels standardised."""
    height, width = picture.shape[:2]
    scale = min(1.0, THUMBNAIL_PX / max(height, width))
    columns = max(1, round(width * scale))
    rows = max(1, round(height * scale))
    as_float = picture.astype(np.float32)
    size = (columns, rows)  # OpenCV takes the width first
    thumbnail = cv2.resize(as_float, size, interpolation=cv2.INTER_AREA)
    colours = thumbnail.reshape(-1, 3)  # (px, 3)
    deviation = np.maximum(colours.std(axis=0), 1e-6)  # a channel of one value has none
    standardised = (colours - colours.mean(axis=0)) / deviation
    return standardised.ravel()
