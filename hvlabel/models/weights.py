"""Checkpoint files: found, hashed, read without executing anything."""

from __future__ import annotations

import argparse
import hashlib
import pickle
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvlabel.config import Weights
from hvlabel.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor


def weights_sha256(weights: Weights | None) -> str | None:
    """Identity of a model's weights for cache keys: the file's sha256, the name of untrained ones, None without any.

    WeightsError if the file is missing or its hash is not the configured one.
    """
    if weights is None:
        return None
    path = weights.path()
    if path is None:
        return weights.checkpoint
    sha256 = file_sha256(path)
    expected = weights.expected_sha256()
    if expected is not None and sha256 != expected:
        who = "the configuration expects" if weights.sha256 else "expected"
        raise WeightsError(f"{path}: sha256 is {sha256}, {who} {expected}; download it again or correct sha256")
    return sha256


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors, .pt or .pth file; a wrapper under `model` or `state_dict` is opened.

    WeightsError if it is none. Nothing is unpickled but tensors: a checkpoint from elsewhere runs no code. A plain
    argparse.Namespace beside them is let through: published trainings keep their arguments so.
    """
    import safetensors.torch  # only here: torch takes seconds to import
    import torch

    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: not a readable checkpoint: it holds more than tensors, which could run code, or is no checkpoint "
            "at all; have its author save the state dict alone"
        ) from error
    except Exception as error:  # loaders raise many kinds on foreign files; each means the same to the user
        gist = " ".join(str(error).split())[:100]
        raise WeightsError(f"{path}: not a readable checkpoint ({gist}); download it again") from error
    for wrapper in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise WeightsError(f"{path}: holds no state dict of tensors; expected a model checkpoint")
    return content


def file_sha256(path: Path) -> str:
    """sha256 of a file; read once per process as long as its size and time stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _sha256(path: Path, size_bytes: int, mtime_ns: int) -> str:
    """The cache's key holds size and time, so a file that was written anew is read anew."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
