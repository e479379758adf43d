"""The kinds of downstream tasks there are, one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hvlabel.errors import ConfigError
from hvtrain.downstream.contract import Choice, Task, TaskSettings
from hvtrain.downstream.dense_head import rebuilt_head
from hvtrain.downstream.dense_inputs import input_of
from hvtrain.downstream.frozen import Frozen
from hvtrain.downstream.head_file import FinishedHead
from hvtrain.downstream.place import Place
from hvtrain.downstream.saliency import open_saliency, predict_saliency, rebuilt_saliency
from hvtrain.downstream.saliency_file import SaliencySettings
from hvtrain.downstream.segment_file import SegmentSettings
from hvtrain.downstream.segment_predict import predict_classes
from hvtrain.downstream.segmentation import open_segmentation
from hvtrain.downstream.track_file import TrackSettings
from hvtrain.downstream.track_predict import predict_boxes
from hvtrain.downstream.tracking import open_tracking, rebuilt_tracker


@dataclass(frozen=True)
class Row:
    """A kind of task.

    settings : what its task files say
    needs_backbone : whether a choice looks at maps
    open     : the task of a file, with its images at a place, for a backbone (none where the input needs none) and a
               choice
    rebuild  : the head of what its file says, weights still to be loaded
    predict  : of a finished head, a cube (or a folder of frames) and the file to write: writes it and says in a few
               words what it is
    """

    settings: type[TaskSettings]
    needs_backbone: Callable[[TaskSettings, Choice], bool]
    open: Callable[[TaskSettings, Place, Frozen | None, Choice], Task]
    rebuild: Callable[[dict[str, Any]], nn.Module]
    predict: Callable[[FinishedHead, Path, Path], str]


def _looks_at_maps(settings: TaskSettings, choice: Choice) -> bool:
    """Whether a dense task's input has maps in it."""
    del settings
    return bool(input_of(choice.input).shown)


def _always(settings: TaskSettings, choice: Choice) -> bool:
    """Heads that see nothing but maps."""
    del settings, choice
    return True


KINDS = {
    "segment": Row(SegmentSettings, _looks_at_maps, open_segmentation, rebuilt_head, predict_classes),
    "saliency": Row(SaliencySettings, _always, open_saliency, rebuilt_saliency, predict_saliency),
    "tracking": Row(TrackSettings, _always, open_tracking, rebuilt_tracker, predict_boxes),
}


def kind_row(name: object) -> Row:
    """The row of a kind; ConfigError for a name that no row has."""
    if not isinstance(name, str) or name not in KINDS:
        raise ConfigError(f"kind {name!r} of a downstream task is unknown; there are: {', '.join(KINDS)}")
    return KINDS[name]
