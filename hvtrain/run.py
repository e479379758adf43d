"""The folder of a run: what lies where, and how it is read."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvlabel.errors import ResultsError
from hvlabel.models.hyperfree import Topology
from hvlabel.models.weights import file_sha256


@dataclass(frozen=True)
class RunFiles:
    """What lies in the folder of a run."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Everything that resuming needs."""
        return self.folder / "checkpoint.pt"

    @property
    def weights(self) -> Path:
        """The averaged student, published layout; written when the run is complete."""
        return self.folder / "student.safetensors"

    @property
    def identity(self) -> Path:
        """Which run this is; written first. No output that a workflow engine knows, so none is deleted before a job."""
        return self.folder / "identity.json"

    @property
    def facts(self) -> Path:
        """Key, settings and outcome; written last."""
        return self.folder / "run.json"

    @property
    def metrics(self) -> Path:
        """One row per `log_every` steps."""
        return self.folder / "metrics.csv"

    @property
    def curves(self) -> Path:
        """The metrics drawn."""
        return self.folder / "curves.png"

    @property
    def evaluation(self) -> Path:
        """Scores per camera; as a table for people beside it as .md."""
        return self.folder / "evaluation.tsv"


def is_complete(files: RunFiles, key: str) -> bool:
    """Whether the run of this key is finished: its weights are those that its identity tells of."""
    known = read_identity(files)
    try:
        return known["key"] == key and known["facts"]["weights_sha256"] == file_sha256(files.weights)
    except (OSError, TypeError, KeyError):
        return False


def read_identity(files: RunFiles) -> dict[str, Any]:
    """`key` of the run in a folder and its `facts` once it is complete; empty if the folder holds no run."""
    if not files.identity.exists():
        return {}
    try:
        return dict(json.loads(files.identity.read_bytes()))
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{files.identity}: cannot be read ({str(error)[:80]}); move the folder away to start this run anew"
        ) from error


def move_aside(files: RunFiles, key: str) -> None:
    """Keep a run of other settings or labels under another name. An empty folder, as a workflow engine makes one, is no run."""
    is_run = files.identity.exists() or files.checkpoint.exists() or files.weights.exists()
    other = read_identity(files).get("key", "unknown") if is_run else key
    if other == key:
        return
    target = files.folder.with_name(f"{files.folder.name}-{other[:8]}")
    n = 2
    while target.exists():
        target = files.folder.with_name(f"{files.folder.name}-{other[:8]}-{n}")
        n += 1
    files.folder.rename(target)
    print(f"{files.folder}: held a run of other settings or labels; moved to {target}", file=sys.stderr, flush=True)  # noqa: T201


def pretty(content: dict[str, Any]) -> bytes:
    """JSON for people."""
    return (json.dumps(content, indent=1) + "\n").encode()


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file, none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_checkpoint(files: RunFiles) -> dict[str, Any]:
    """A checkpoint's content; ResultsError if it is missing or damaged."""
    try:
        return dict(torch.load(files.checkpoint, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise ResultsError(f"{files.checkpoint}: no checkpoint; is this the folder of a run?") from error
    except Exception as error:  # torch raises many kinds on a damaged file; each means the same to the user
        raise ResultsError(
            f"{files.checkpoint}: not a readable checkpoint ({' '.join(str(error).split())[:80]}); delete it to start this run anew"
        ) from error


def averaged_student(folder: Path) -> tuple[Mapping[str, Tensor], int, Topology]:
    """State dict of the averaged student in a run's last checkpoint, published layout, the checkpoint's step, and the sizes."""
    content = read_checkpoint(RunFiles(folder))
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content["topology"].items()}
    state = {k.removeprefix("module."): v for k, v in content["average"].items() if k.startswith("module.")}
    return state, content["step"], Topology(**sizes)
