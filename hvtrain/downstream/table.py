"""The kinds of downstream tasks there are, one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hvlabel.errors import ConfigError
from hvtrain.downstream.contract import Choice, Task, TaskSettings
from hvtrain.downstream.frozen import Frozen
from hvtrain.downstream.head_file import FinishedHead
from hvtrain.downstream.place import Place


@dataclass(frozen=True)
class Row:
    """A kind of task.

    settings : what its task files say
    open     : the task of a file, with its images at a place, for a backbone (none where the input needs none) and a
               choice
    predict  : of a finished head, a cube and the file to write: writes it and says in a few words what it is
    """

    settings: type[TaskSettings]
    open: Callable[[TaskSettings, Place, Frozen | None, Choice], Task]
    predict: Callable[[FinishedHead, Path, Path], str]


KINDS: dict[str, Row] = {}


def kind_row(name: object) -> Row:
    """The row of a kind; ConfigError for a name that no row has."""
    if not isinstance(name, str) or name not in KINDS:
        raise ConfigError(f"kind {name!r} of a downstream task is unknown; there are: {', '.join(KINDS)}")
    return KINDS[name]
