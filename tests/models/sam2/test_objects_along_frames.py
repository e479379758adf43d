"""Objects started and carried along frames by the sequence branch, with SAM2 and with a network of known answers."""

import numpy as np
import torch

from hvlabel.branches.propagate import track_objects
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.config import GeneratorSettings
from hvlabel.cube.bands import Frame
from hvlabel.masks import encode
from hvlabel.models.batches import Ceilings
from hvlabel.models.sam2 import Sam2Predictor
from hvlabel.models.two_way import DecodedMasks

LOW = {
    "mask_threshold": 3.0,
    "stability_score_offset": 0.05,
    "pred_iou_thresh": 0.01,
    "stability_score_thresh": 0.01,
    "box_nms_thresh": 0.9,
}


def test_objects_that_do_not_fit_are_carried_in_smaller_batches(local_network, frames, monkeypatch):
    predictor = Sam2Predictor(local_network)
    named = [Frame(10 + t, (t + 2, t + 1, t)) for t in range(6)]
    settings = SequenceSettings(
        key_frames=1, max_objects=5, generator=GeneratorSettings(**{**LOW, "points_per_side": 8})
    )
    wanted = track_objects(predictor, frames, named, settings)
    step = predictor.tracker._step

    def small_device(embeddings, frame, track):
        if frame > 4 and len(track.prompted.pointer) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(embeddings, frame, track)

    monkeypatch.setattr(predictor.tracker, "_step", small_device)
    found = track_objects(predictor, frames, named, settings)
    assert predictor.ceilings.lowered() == {"objects": 2}
    assert len(found) == len(wanted) > 6
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.frame, ours.extra) == (theirs.frame, theirs.extra)
        assert ours.rle == theirs.rle


def test_every_object_starts_once_and_remembers_its_frames(local_network, frames):
    named = [Frame(10 + t, (t + 2, t + 1, t)) for t in range(6)]
    settings = SequenceSettings(
        key_frames=2, max_objects=5, generator=GeneratorSettings(**{**LOW, "points_per_side": 8})
    )
    masks = track_objects(Sam2Predictor(local_network), frames, named, settings)
    starts = {}
    for mask in masks:
        assert mask.bands == named[mask.frame - 10].bands
        starts.setdefault(mask.extra["object"], mask.extra["start_frame"])
        assert starts[mask.extra["object"]] == mask.extra["start_frame"]
    assert set(starts.values()) <= {10, 15}
    assert sum(s == 10 for s in starts.values()) == 5


class RememberingModel:
    """Carries every mask unchanged and 'sees' only what a frame shows: a stand-in that makes the rules visible."""

    def __init__(self, frames):
        self.frames, self.ceilings, self.slack_cells = frames, Ceilings(), 0.0

    def embed(self, image):
        return image

    def decode(self, image, points_xy, masks=None, *, multimask=True):
        own = [
            torch.from_numpy(np.where(image[:, :, 0] == image[int(y), int(x), 0], 9.0, -9.0)).float()
            for x, y in points_xy
        ]
        return torch.stack(own)[:, None], torch.tensor(
            [[0.9 if image[int(y), int(x), 0] > 0 else 0.0] for x, y in points_xy]
        )

    def decode_above(self, image, points_xy, min_iou):
        logits, iou = self.decode(image, points_xy)
        keep = iou > (-1 if min_iou is None else min_iou)
        return DecodedMasks(logits[keep], iou[keep], keep.nonzero()[:, 0])

    def upscale(self, logits, image):
        return logits

    def covered_hw(self, logits, image):
        return logits.shape[1:]

    def track(self, embeddings, start, masks):
        for t, image in enumerate(embeddings):
            visible = torch.stack([torch.from_numpy(image[:, :, 0] > 0) & m for m in masks]).flatten(1).any(1)
            yield t, slice(0, len(masks)), torch.where(masks, 9.0, -9.0), visible


def test_objects_seen_in_few_bands_only_are_started_where_they_appear_and_left_out_elsewhere():
    empty = np.zeros((64, 64, 3), np.float32)
    images = [empty.copy() for _ in range(5)]
    for t in range(3):
        images[t][8:24, 8:24] = 0.5
    for t in (2, 3, 4):
        images[t][40:56, 30:60] = 0.8
    masks = track_objects(
        RememberingModel(images),
        images,
        [Frame(t, (2, 1, 0)) for t in range(5)],
        SequenceSettings(key_frames=5, generator=GeneratorSettings(points_per_side=8, pred_iou_thresh=0.5)),
    )
    where = {}
    for mask in masks:
        where.setdefault(mask.extra["object"], []).append(mask.frame)
    assert where == {0: [0, 1, 2], 1: [2, 3, 4]}
    square = np.zeros((64, 64), bool)
    square[8:24, 8:24] = True
    assert masks[0].rle == encode(square)
