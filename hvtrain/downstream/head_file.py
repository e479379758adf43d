"""A finished head on disk: a .safetensors file that says what it was trained for, and on which backbone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from hvlabel.cache.publish import publish_bytes
from hvlabel.errors import WeightsError
from hvtrain.downstream.frozen import Frozen, load_frozen

FILE = "head.safetensors"  # in the folder of a run
FACTS = "downstream"  # key in the metadata


@dataclass(frozen=True)
class FinishedHead:
    """A head in evaluation mode.

    facts    : as `write_head` was given them: kind, task, head, input, classes, ...
    backbone : that it was trained on; none where its input needs none
    """

    network: nn.Module
    facts: dict[str, Any]
    backbone: Frozen | None


def write_head(path: Path, head: nn.Module, facts: dict[str, Any]) -> None:
    """Publish a head's weights with facts as JSON; `backbone_sha256` and `backbone` among them are None without one."""
    metadata = {FACTS: json.dumps(facts, sort_keys=True)}
    content = safetensors.torch.save(plain_state(head), metadata=metadata)
    publish_bytes(path, content)


def plain_state(head: nn.Module) -> dict[str, Tensor]:
    """A head's state dict as safetensors takes it: on the CPU, no views."""
    state = {}
    for name, tensor in head.state_dict().items():
        state[name] = tensor.detach().cpu().contiguous()
    return state


def read_facts(path: Path) -> dict[str, Any]:
    """What a head's file says about itself; WeightsError if it is no head of a downstream task."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: no readable head ({str(error)[:80]}); give the folder of an adapt run") from error
    if FACTS not in metadata:
        raise WeightsError(f"{path}: holds no head of a downstream task; give the {FILE} of an adapt run")
    return dict(json.loads(metadata[FACTS]))


def backbone_of(path: Path, facts: dict[str, Any], source: str | None) -> Frozen | None:
    """The backbone that a head asks for; WeightsError where another one is given.

    source : as of load_frozen; none: the one whose path the head's file names
    """
    if facts["backbone_sha256"] is None:
        return None
    backbone = load_frozen(source or facts["backbone"], facts["seed"])
    if backbone.sha256 != facts["backbone_sha256"]:
        raise WeightsError(
            f"{path}: is a head for the backbone with sha256 {facts['backbone_sha256'][:12]}, not for {backbone.name} "
            f"({backbone.sha256[:12]}); give that one with --backbone, or train a head for this one"
        )
    return backbone
