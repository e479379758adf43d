"""A finished head, loaded with the backbone that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hvlabel.errors import ConfigError, WeightsError
from hvlabel.models.weights import read_state_dict
from hvtrain.downstream.head_file import FILE, FinishedHead, backbone_of, read_facts
from hvtrain.downstream.table import kind_row
from hvtrain.downstream.track_predict import predict_boxes


def load_finished(path: Path, backbone: str | None = None) -> FinishedHead:
    """The head of a run's folder or of its file, in evaluation mode.

    backbone : as of load_frozen; none: the one that the head's file names
    WeightsError for what is no head, and where the backbone is not the one that it was trained on.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(f"{file}: no such head; give the folder of a finished `hvtrain adapt` run")
    facts = read_facts(file)
    network = kind_row(facts.get("kind")).rebuild(facts)
    network.load_state_dict(read_state_dict(file))
    of_head = backbone_of(file, facts, backbone)
    return FinishedHead(network.eval(), facts, of_head)


def predict(
    head: Path, cube: Path, out: Path, backbone: str | None = None, box_xywh: Sequence[float] | None = None
) -> str:
    """Write what a head makes of a cube; says in a few words what it is.

    box_xywh : (4,) for tracking: the object in the first frame, px, instead of the file in the folder
    ConfigError for a box that the head has no use for; else errors as load_finished and the kind's own.
    """
    finished = load_finished(head, backbone)
    kind = finished.facts["kind"]
    if kind == "tracking":
        return predict_boxes(finished, cube, out, box_xywh)
    if box_xywh is not None:
        raise ConfigError(f"--box says where an object is to be followed from; {head} is a head of kind {kind}")
    return kind_row(kind).predict(finished, cube, out)
