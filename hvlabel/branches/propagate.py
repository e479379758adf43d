"""Objects carried along the frames of a sequence by a memory network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hvlabel.branches.generator import generate_masks
from hvlabel.branches.points import PromptModel
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.cube.bands import Frame, evenly_spread
from hvlabel.masks import Mask, Rle, decode, encode, interior_point, iou_matrix, rank


class TrackModel(PromptModel, Protocol):
    """A prompt model with a memory."""

    def track(self, embeddings: list[Any], start: int, masks: Tensor) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """(frame, objects, logits (n, H, W), object present (n,)) for (N, H, W) bool masks given on frame `start`."""


def track_objects(
    model: TrackModel, images: Sequence[np.ndarray], frames: Sequence[Frame], settings: SequenceSettings
) -> list[Mask]:
    """All (object, frame) masks, unsuppressed.

    images : T x (H, W, 3) float32 in [0, 1]
    In every key frame the generator's masks that no earlier track covers become objects (best max_objects by score);
    each is carried forwards to the last frame and backwards to the first. On its start frame an object keeps the
    generator's mask; elsewhere its score is its start score times the stability of the carried logits, and frames where
    the network sees no object are left out.
    """
    embeddings = [model.embed(image) for image in images]
    masks: dict[tuple[int, int], Mask] = {}  # by object and frame; a frame may be given twice
    n_objects = 0
    for key in evenly_spread(len(frames), settings.key_frames):
        generated = generate_masks(model, images[key], settings.generator, "sequence", embeddings[key])
        tracked = [mask.rle for (_, frame), mask in masks.items() if frame == key]
        started = _uncovered(generated, tracked, settings)
        if not started:
            continue
        decoded = np.stack([decode(mask.rle) for mask in started])
        prompts = torch.from_numpy(decoded)  # (N, H, W)
        for frame, objects, logits, present in model.track(embeddings, key, prompts):
            for offset, carried in _carried(logits, present, settings).items():
                k = objects.start + offset  # the network carries some of the N at a time
                object_id = n_objects + k
                origin = {"object": object_id, "start_frame": frames[key].index}
                elsewhere = None if frame == key else carried
                masks[object_id, frame] = _at_frame(started[k], elsewhere, frames[frame], origin)
        n_objects += len(started)
    return [masks[object_and_frame] for object_and_frame in sorted(masks)]


def _uncovered(generated: list[Mask], tracked: list[Rle], settings: SequenceSettings) -> list[Mask]:
    """The best generated masks that no track covers on this frame."""
    generated_rles = [mask.rle for mask in generated]
    iou = iou_matrix(generated_rles, tracked)  # (generated, tracked)
    # initial: where nothing is tracked yet, nothing is covered
    covered = iou.max(axis=1, initial=0) >= settings.new_object_iou
    fresh = [mask for mask, is_covered in zip(generated, covered, strict=True) if not is_covered]
    best_idx = rank(fresh)[: settings.max_objects]
    return [fresh[k] for k in best_idx]


def _carried(logits: Tensor, present: Tensor, settings: SequenceSettings) -> dict[int, tuple[np.ndarray, float]]:
    """Object -> its mask (H, W) bool and stability, for objects that are present and not empty."""
    threshold = settings.generator.mask_threshold
    offset = settings.generator.stability_score_offset
    # the smaller mask lies in the larger one: their areas are intersection and union
    smaller_px = (logits > threshold + offset).flatten(1).sum(1)
    larger_px = (logits > threshold - offset).flatten(1).sum(1)
    stability = (smaller_px / larger_px.clamp(min=1)).tolist()
    carried = {}
    for k, mask in enumerate((logits > threshold).cpu().numpy()):
        if bool(present[k]) and mask.any():
            carried[k] = (mask, stability[k])
    return carried


def _at_frame(start: Mask, carried: tuple[np.ndarray, float] | None, frame: Frame, origin: dict[str, int]) -> Mask:
    """The mask of an object on a frame.

    start   : as it was generated on its start frame
    carried : (H, W) bool and stability there; None on the start frame, where the generated mask stays
    """
    if carried is None:
        rle, point_xy, stability = start.rle, start.point_xy, start.stability_score
    else:
        mask, stability = carried
        rle, point_xy = encode(mask), interior_point(mask)
    return Mask(
        rle,
        score=start.score * stability,
        branch="sequence",
        point_xy=point_xy,
        predicted_iou=start.predicted_iou,
        stability_score=stability,
        frame=frame.index,
        bands=frame.bands,
        extra=origin,
    )
