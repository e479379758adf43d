"""Published files in, published files out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hvlabel.errors import ConfigError, WeightsError
from hvlabel.models.weights import read_state_dict
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.parts.states import cleaned
from hvtrain.backbones.table import BACKBONES, backbone_row
from hvtrain.backbones.weights import export, recorded_sizes
from hvtrain.heads.prompted import PromptedBackbone
from hvtrain.student import load_exported

ENDING = ".safetensors"  # the one kind that tells the network's sizes


def import_published(files: Sequence[Path], name: str, out: Path, config: Mapping[str, Any] | None = None) -> Backbone:
    """Publish what a published checkpoint holds of a backbone as a file that runs start from; returns the backbone.

    files  : of one network; several where its authors publish its parts apart
    config : sizes by their published names, where no shape tells them
    WeightsError for a file that is missing, damaged, unsafe or of another network; ConfigError for an unknown backbone,
    or one without published files.
    """
    adopt = backbone_row(name).adopt
    if adopt is None:
        adopted = [other for other, row in BACKBONES.items() if row.adopt is not None]
        known = ", ".join(adopted)
        raise ConfigError(f"no published files of {name} are known; there are such of: {known}")
    if out.suffix != ENDING:
        raise WeightsError(
            f"{out}: an imported network is written as {ENDING}, which tells its sizes; choose that ending"
        )
    parts = []
    for path in files:
        if not path.is_file():
            raise WeightsError(f"{path}: no such checkpoint")
        parts.append(cleaned(read_state_dict(path)))
    source = ", ".join(map(str, files))
    backbone = adopt(parts, config or {}, source)
    if backbone.side_px % backbone.stride_px:
        raise ConfigError(
            f"an input of {backbone.side_px} px is no multiple of the {backbone.stride_px} px of a token; choose "
            "another --side-px"
        )
    export(backbone.state_dict(), out, backbone.sizes(), backbone.name)
    return backbone


def export_published(path: Path, out: Path) -> int:
    """Publish a run's or an imported network's backbone in its authors' layout; returns the number of tensors.

    WeightsError for a file that does not tell which backbone it is of.
    """
    if recorded_sizes(path) is None:
        raise WeightsError(
            f"{path}: does not tell which backbone it is of; give the {ENDING} file of a run or an import"
        )
    student = load_exported(path)
    backbone = student.backbone if isinstance(student, PromptedBackbone) else student
    state = backbone.published_state()
    export(state, out)
    return len(state)
