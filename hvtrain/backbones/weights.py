"""Weights of backbones on disk: what fits into a network, and files that tell which network they are of."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.cache.publish import publish_bytes
from hvlabel.errors import WeightsError
from hvtrain.backbones.contract import Backbone

# keys in the metadata of a .safetensors file: the sizes, and the backbone's name where it is not DEFAULT
SIZES, NAME = "topology", "backbone"
DEFAULT = "hyperfree"
IGNORED = "mask_decoder.class_seg_head."  # in some published files; used for no mask


def load_into(network: Backbone, state: Mapping[str, Tensor], source: str) -> None:
    """Every weight of a state dict into a network of the same sizes; WeightsError otherwise.

    Its position tables may be of another image size: they are interpolated. What may be missing stays as it is.
    """
    expected = network.state_dict()
    optional = network.may_be_missing()
    missing = [name for name in expected if name not in state]
    absent = {name for name in missing if name.startswith(optional)}
    expected = {name: tensor for name, tensor in expected.items() if name not in absent}
    tables = network.position_tables()
    wrong = []
    for name, tensor in expected.items():
        if name not in state or (state[name].shape != tensor.shape and name not in tables):
            wrong.append(name)
    unread = (IGNORED, *network.unread())
    extra = [name for name in state if name not in expected and not name.startswith(unread)]
    if wrong or extra:
        some = ", ".join((wrong + extra)[:3])
        raise WeightsError(
            f"{source}: does not fit the network that pretrain.student names ({len(wrong)} tensors missing or of "
            f"another shape, {len(extra)} unknown, e.g. {some}); choose its size and merging"
        )
    fitted = {name: _fitted(state[name].float(), tensor) for name, tensor in expected.items()}
    network.load_state_dict(fitted, strict=not absent)


def _fitted(given: Tensor, expected: Tensor) -> Tensor:
    """A position table (2g - 1, d) for another grid; anything else as it is."""
    if given.shape == expected.shape:
        return given
    along = given.T[None]  # (1, d, 2g - 1): interpolate works on the last axis
    resized = F.interpolate(along, size=expected.shape[0], mode="linear")
    return resized[0].T


def export(
    state: Mapping[str, Tensor], path: Path, sizes: Mapping[str, Any] | None = None, name: str = DEFAULT
) -> None:
    """Publish a bare state dict as .safetensors, .pt or .pth.

    sizes, name : of the backbone; written beside the tensors of a .safetensors file, which alone do not tell all sizes
    """
    whole = {}
    for key, tensor in state.items():
        whole[key] = tensor.detach().cpu().contiguous()  # safetensors refuses views
    if path.suffix == ".safetensors":
        facts = None if sizes is None else {SIZES: json.dumps(sizes)}
        if facts is not None and name != DEFAULT:
            facts[NAME] = name
        publish_bytes(path, safetensors.torch.save(whole, metadata=facts))
    elif path.suffix in (".pt", ".pth"):
        content = io.BytesIO()
        torch.save(whole, content)
        publish_bytes(path, content.getvalue())
    else:
        raise WeightsError(f"{path}: weights are written as .safetensors, .pt or .pth; choose one of these endings")


def recorded_sizes(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Name and sizes of the backbone that an exported .safetensors file tells; None where it tells none."""
    if path.suffix != ".safetensors":
        return None
    with safetensors.safe_open(path, framework="pt") as file:
        facts = file.metadata() or {}
    if SIZES not in facts:
        return None
    name = facts.get(NAME, DEFAULT)
    return name, json.loads(facts[SIZES])
