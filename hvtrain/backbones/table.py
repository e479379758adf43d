"""The backbones there are, one row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hvlabel.config import StudentSettings
from hvlabel.errors import ConfigError
from hvtrain.backbones import hyperfree
from hvtrain.backbones.contract import Backbone


@dataclass(frozen=True)
class Row:
    """A backbone.

    build         : the network that settings name, with first weights drawn from torch's generator
    rebuild       : the network of the sizes that its `sizes()` gave
    require_bands : what its method of that name does, before there is a network
    """

    build: Callable[[StudentSettings], Backbone]
    rebuild: Callable[[dict[str, Any]], Backbone]
    require_bands: Callable[[Sequence[float]], None]


BACKBONES = {
    "hyperfree": Row(hyperfree.build, hyperfree.rebuild, hyperfree.require_bands),
}


def backbone_row(name: str) -> Row:
    """The row of a name; ConfigError for a name that no row has."""
    if name not in BACKBONES:
        raise ConfigError(f"pretrain.student.backbone {name!r} is unknown; there are: {', '.join(BACKBONES)}")
    return BACKBONES[name]
