"""A finished tracking head on a folder of frames: a box per frame as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.cache.publish import publish_bytes
from hvlabel.errors import ConfigError
from hvtrain.downstream.head_file import FinishedHead
from hvtrain.downstream.sequences import BOXES_FILE, Frames, Track, open_to_track
from hvtrain.downstream.track_file import FollowSettings, TrackCameraSettings
from hvtrain.downstream.track_heads import CENTER, tracker_of
from hvtrain.downstream.tracker import CropEncoder, track
from hvtrain.downstream.tracking import score, shown_of


def predict_boxes(head: FinishedHead, folder: Path, out: Path) -> str:
    """Write x, y, w, h of every frame of a folder, a line each, apart by tabs; says in a few words what it is.

    The folder holds frames and groundtruth_rect.txt, of which the first line is the object to follow.
    ConfigError for another ending or a camera that cannot be told; RawFileError and BandError for what cannot be read.
    """
    if out.suffix.lower() != ".txt":
        raise ConfigError(f"{out}: boxes are written as .txt; choose that ending")
    assert head.backbone is not None  # its head sees maps
    facts = head.facts
    camera, settings = _camera_of(folder, facts["cameras"])
    sequence = open_to_track(folder, folder.name, camera, settings)
    frames = Frames(shown_of(facts["input"]))
    bands_nm = frames.bands_nm(sequence)
    network = head.backbone.network
    network.require_bands(bands_nm)
    encoder = CropEncoder(network, bands_nm, frames.brightest(sequence), facts["factor"])
    recorded = facts.get("follow")  # older files have none
    follow = None if recorded is None else FollowSettings.model_validate(recorded)
    boxes = track(sequence, frames, tracker_of(facts.get("head", CENTER), head.network, encoder, follow))
    lines = ["\t".join(f"{value:.2f}" for value in box) + "\n" for box in boxes]
    publish_bytes(out, "".join(lines).encode())
    return f"{len(boxes)} boxes{_beside_truth(sequence, boxes)}"


def _camera_of(folder: Path, cameras: dict[str, Any]) -> tuple[str, TrackCameraSettings]:
    """The camera whose folder the sequence lies below, or the only one."""
    rows = {name: TrackCameraSettings.model_validate(row) for name, row in cameras.items()}
    if len(rows) == 1:
        return next(iter(rows.items()))
    for name, row in rows.items():
        if row.folder in folder.resolve().parts:
            return name, row
    folders = ", ".join(str(row.folder) for row in rows.values())
    raise ConfigError(f"{folder}: which camera is it of? put it below a folder named as one of these: {folders}")


def _beside_truth(sequence: Track, boxes: np.ndarray) -> str:
    """A score where the folder has boxes of more frames than the first."""
    if len(sequence.boxes_xywh) != len(boxes) or len(sequence.visible) < 2:
        return ""
    scores = score(sequence, boxes, pysot_compat=False)
    return f", AUC {scores.auc:.3f} and DP@20 {scores.dp20:.3f} beside {BOXES_FILE}"
