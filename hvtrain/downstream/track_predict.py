"""An object followed through a folder of frames, by a finished head or by SAM: a box per frame as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.cache.publish import publish_bytes
from hvlabel.config import SamModel
from hvlabel.errors import ConfigError
from hvlabel.models.sam import SamPredictor, sam_of
from hvtrain.downstream.head_file import FinishedHead
from hvtrain.downstream.prompt_tracker import PromptTracker
from hvtrain.downstream.sequences import BOXES_FILE, Frames, Track, open_to_track, require_inside
from hvtrain.downstream.track_file import FollowSettings, TrackCameraSettings
from hvtrain.downstream.track_heads import CENTER, tracker_of
from hvtrain.downstream.tracker import CropEncoder, track
from hvtrain.downstream.tracking import score, shown_of


def predict_boxes(head: FinishedHead, folder: Path, out: Path, box_xywh: Sequence[float] | None = None) -> str:
    """Write x, y, w, h of every frame of a folder, a line each, apart by tabs; says in a few words what it is.

    The folder holds frames and groundtruth_rect.txt, of which the first line is the object to follow.

    box_xywh : (4,) the object in the first frame, px, instead of that file
    ConfigError for another ending or a camera that cannot be told; RawFileError and BandError for what cannot be read.
    """
    _require_ending(out)
    assert head.backbone is not None  # its head sees maps
    facts = head.facts
    camera, settings = _camera_of(folder, facts["cameras"])
    sequence = open_to_track(folder, folder.name, camera, settings, box_xywh)
    frames = Frames(shown_of(facts["input"]))
    bands_nm = frames.bands_nm(sequence)
    network = head.backbone.network
    network.require_bands(bands_nm)
    level = frames.brightest(sequence)
    encoder = CropEncoder(network, bands_nm, level, facts["factor"])
    recorded = facts.get("follow")  # older files have none
    follow = None if recorded is None else FollowSettings.model_validate(recorded)
    name = facts.get("head", CENTER)
    tracker = tracker_of(name, head.network, encoder, follow)
    return _write(track(sequence, frames, tracker), sequence, out)


def predict_by_sam(
    checkpoint: str,
    folder: Path,
    out: Path,
    camera: TrackCameraSettings,
    box_xywh: Sequence[float] | None = None,
) -> str:
    """As predict_boxes, without a head: SAM is asked for the mask in the last box, on the colours of each frame.

    checkpoint : file of a SAM; empty: the one that `hvlabel models fetch` had
    Errors as predict_boxes; WeightsError where SAM's weights are missing or do not fit.
    """
    _require_ending(out)
    # before the network, which takes seconds
    sequence = open_to_track(folder, folder.name, "descriptor", camera, box_xywh)
    frames = Frames("rgb")
    level = frames.brightest(sequence)
    first = frames.of(sequence, 0)
    require_inside(sequence, first.shape[1:])
    model = SamModel(checkpoint=checkpoint) if checkpoint else SamModel()
    tracker = PromptTracker(SamPredictor(sam_of(model)), level)
    return _write(track(sequence, frames, tracker), sequence, out)


def _require_ending(out: Path) -> None:
    """ConfigError for a file that is no text."""
    if out.suffix.lower() != ".txt":
        raise ConfigError(f"{out}: boxes are written as .txt; choose that ending")


def _write(boxes: np.ndarray, sequence: Track, out: Path) -> str:
    """Publish boxes (T, 4), px; says how many, and beside the true ones how good."""
    lines = []
    for box in boxes:
        fields = [f"{value:.2f}" for value in box]
        lines.append("\t".join(fields) + "\n")
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
