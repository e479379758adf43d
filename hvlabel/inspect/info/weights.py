"""Weights: exported files of backbones, and checkpoints that a training goes on from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hvlabel.inspect.info.answer import Info
from hvlabel.models.weights import file_sha256


def safetensors_info(path: Path) -> Info | None:
    """An exported file of tensors; its header alone is read, and the whole file hashed."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="np") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 (no mapping)
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        return Info(path, "exported weights", health=f"damaged: {str(error)[:80]}")
    facts: dict[str, Any] = {
        "backbone": metadata.get("backbone", "hyperfree" if "topology" in metadata else None),
        "sizes": _parsed(metadata.get("topology")),
        "tensors": len(shapes),
        "weights": sum(math.prod(shape) for shape in shapes),
        "sha256": file_sha256(path),
    }
    return Info(path, "exported weights", facts, weights_health(path))


def weights_health(path: Path) -> str:
    """Whether a run's weights are those that its run.json names; "" where there is no such file beside them."""
    try:
        recorded = json.loads(path.with_name("run.json").read_bytes())["weights_sha256"]
        is_same = recorded == file_sha256(path)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return "whole: the weights that run.json names" if is_same else f"{path.name} is not the file that run.json names"


def checkpoint_info(path: Path) -> Info | None:
    """A checkpoint; only tensors and plain values are unpacked, never code."""
    import torch

    try:
        # weights_only: a checkpoint of a stranger must not run anything
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; each means that it is no checkpoint
        gist = " ".join(str(error).split())[:80]
        return Info(path, "a checkpoint", health=f"not a readable checkpoint: {gist}")
    if not isinstance(content, Mapping):
        return None
    plain = {name: value for name, value in content.items() if isinstance(value, int | float | str)}
    sizes = list(_tensors(content))
    entries = ", ".join(map(str, content))[:200]
    facts = {**plain, "entries": entries, "tensors": len(sizes), "weights": sum(sizes)}
    return Info(path, "a checkpoint", facts, "readable")


def _tensors(value: Any) -> Iterator[int]:
    """Number of values of each tensor inside."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value.numel()
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
