"""Checkpoints: written whole or not at all, read with one sentence for what is wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvlabel.cache.publish import private_name
from hvlabel.errors import ResultsError

AVERAGED = "module."  # how torch's AveragedModel calls the network inside; beside it there is a counter
MAX_REASON = 80  # characters of torch's message, which may run over pages


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a checkpoint: it is on the disk before the older one is gone."""
    temporary = path.with_name(private_name(path.stem, "tmp"))
    with temporary.open("wb") as file:
        torch.save(dict(content), file)
        file.flush()
        os.fsync(file.fileno())  # a crash after the rename must not leave an empty file
    temporary.replace(path)


def sweep(path: Path) -> None:
    """Remove what killed runs left of checkpoints half written. The run's lock must be held."""
    for left in path.parent.glob(f".{path.stem}.*.tmp"):
        left.unlink()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU; ResultsError if it is missing or damaged."""
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: no checkpoint; is this the folder of a run?") from error
    except Exception as error:  # torch raises many kinds on a damaged file; each means the same to the user
        one_line = " ".join(str(error).split())
        reason = one_line[:MAX_REASON]
        raise ResultsError(f"{path}: not a readable checkpoint ({reason}); delete it to start this run anew") from error


def averaged_student(path: Path) -> tuple[Mapping[str, Tensor], int, str, dict[str, Any]]:
    """Of a checkpoint: the averaged student's state dict, the step, and its backbone's name and sizes."""
    content = read_checkpoint(path)
    average = content["average"]
    state = {}
    for name, tensor in average.items():
        if name.startswith(AVERAGED):
            state[name.removeprefix(AVERAGED)] = tensor
    backbone = content.get("backbone", "hyperfree")  # checkpoints were written before there was a second one
    return state, content["step"], backbone, content["topology"]
