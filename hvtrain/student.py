"""The network that is trained: a backbone, and the prompt decoder that masks are asked for through."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvlabel.config import StudentSettings
from hvlabel.errors import WeightsError
from hvlabel.models.weights import read_state_dict
from hvtrain.backbones import hyperfree
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.table import backbone_row
from hvtrain.backbones.weights import load_into, recorded_sizes
from hvtrain.heads.first_weights import listen_to_prompts
from hvtrain.heads.prompted import OF_BACKBONE, PromptedBackbone, decoder_of, prompted


def make_student(settings: StudentSettings, seed: int) -> Backbone:
    """The network with its first weights: those of the checkpoint, or drawn from the seed.

    ConfigError for an unknown backbone; WeightsError if the checkpoint does not fit it.
    """
    row = backbone_row(settings.backbone)
    # a generator of its own: the draws of whoever calls stay as they are
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = prompted(row.build(settings))
        decoder = decoder_of(student)
        listen_to_prompts(decoder.mask_decoder, decoder.prompt_encoder)
    path = start_file(settings)
    if path is not None:
        state = read_state_dict(path)
        load_into(_holder(student, state), state, str(path))
    return student


def _holder(student: Backbone, state: Mapping[str, Tensor]) -> Backbone:
    """What a state dict is of: the student, or, in a file that was imported, its backbone alone."""
    is_whole = any(name.startswith(OF_BACKBONE) for name in state)
    if isinstance(student, PromptedBackbone) and not is_whole:
        return student.backbone
    return student


def start_file(settings: StudentSettings) -> Path | None:
    """The checkpoint to start from, None from scratch; WeightsError if it is missing."""
    if settings.checkpoint is None:
        return None
    path = Path(os.path.expanduser(settings.checkpoint))
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such checkpoint; set pretrain.student.checkpoint to a file, "
            "or leave it out to start from scratch"
        )
    return path


def grid_of(student: Backbone) -> int:
    """Cells along a side of the last map; the decoder's output has four times as many."""
    return student.side_px // student.stride_px


def rebuilt(name: str, sizes: dict[str, Any]) -> Backbone:
    """The network of recorded sizes, its weights still to be loaded; ConfigError for an unknown backbone."""
    return prompted(backbone_row(name).rebuild(sizes))


def load_exported(
    path: Path | str, image_size_px: int | None = None, merge_blocks: Sequence[int] | None = None
) -> Backbone:
    """The network of an exported file, or of a published HyperFree file, in evaluation mode.

    WeightsError for a file that is neither; ConfigError for an unknown backbone.

    image_size_px, merge_blocks : what a published file does not tell; not needed for a .safetensors file of a run
    """
    path = Path(path)
    state = read_state_dict(path)
    recorded = recorded_sizes(path)
    if recorded is None:
        # published files tell no sizes: shapes and the caller do
        sizes_given = {"img_size": image_size_px, "merge_indexs": merge_blocks}
        student: Backbone = hyperfree.adopt([state], sizes_given, str(path))
    else:
        name, sizes = recorded
        # an imported file holds no prompt decoder: then the backbone is all there is
        student = _holder(rebuilt(name, sizes), state)
        load_into(student, state, str(path))
    return student.eval()
