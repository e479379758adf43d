"""The folder of a run: what lies where, and whose it is."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hvlabel.cache.at_work import Holder
from hvlabel.errors import ResultsError
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

    def picture(self, step: int) -> Path:
        """What the student predicts at a step."""
        return self.folder / "pictures" / f"step_{step:07d}.png"


def is_complete(files: RunFiles, key: str) -> bool:
    """Whether the run of this key is finished: its weights are those that its identity names."""
    identity = read_identity(files)
    try:
        if identity["key"] != key:
            return False
        weights = identity["facts"]["weights_sha256"]
        return bool(weights == file_sha256(files.weights))
    except (OSError, TypeError, KeyError):  # a run that goes on has no facts, or no weights
        return False


def read_identity(files: RunFiles) -> dict[str, Any]:
    """`key` of the run in a folder and its `facts` once it is complete; empty if the folder holds no run.

    ResultsError if the file is damaged.
    """
    if not files.identity.exists():
        return {}
    try:
        return dict(json.loads(files.identity.read_bytes()))
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{files.identity}: cannot be read ({str(error)[:80]}); move the folder away to start this run anew"
        ) from error


def move_aside(files: RunFiles, key: str) -> None:
    """Keep a run of another key under another name. An empty folder, as a workflow engine makes one, is no run."""
    signs = (files.identity, files.checkpoint, files.weights)
    is_run = any(path.exists() for path in signs)
    other = read_identity(files).get("key", "unknown") if is_run else key
    if other == key:
        return
    name = f"{files.folder.name}-{other[:8]}"
    target = files.folder.with_name(name)
    n = 2
    while target.exists():  # the same run was moved aside before
        target = files.folder.with_name(f"{name}-{n}")
        n += 1
    files.folder.rename(target)
    say(f"{files.folder}: held a run of other settings or labels; moved to {target}")


@contextmanager
def only_one(files: RunFiles, *, first: bool, agree: Any) -> Iterator[None]:
    """The run's lock, held by the first of several processes; ResultsError in all of them if another run holds it.

    agree : gives every process what the first one passes
    """
    # beside the folder, which may be moved aside while the lock is held
    lock = FileLock(files.folder.with_name(f".{files.folder.name}.lock"))
    # not in the lock's file, which whoever tries to lock it empties
    who = files.folder.with_name(f".{files.folder.name}.holder")
    holder = ""  # of the lock, if it is not this process
    if first:
        try:
            lock.acquire(timeout=0)
            who.write_text(str(Holder.this()))
        except Timeout:
            holder = who.read_text() if who.is_file() else "which left no name"
    holder = agree(holder)
    if holder:
        raise ResultsError(
            f"{files.folder}: another process is training a run of this name ({holder}); wait for it, stop it, "
            "or give this one another pretrain.run"
        )
    try:
        yield
    finally:
        if first:
            who.unlink(missing_ok=True)
        lock.release()


def pretty(content: dict[str, Any]) -> bytes:
    """JSON for people."""
    text = json.dumps(content, indent=1) + "\n"
    return text.encode()


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file, none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def say(sentence: str) -> None:
    """A sentence for the log of the job."""
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201
