"""The backbones there are, one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hvlabel.config import StudentSettings
from hvlabel.errors import ConfigError
from hvtrain.backbones import hyperfree
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.hypersigma import backbone as hypersigma
from hvtrain.backbones.hypersl import backbone as hypersl
from hvtrain.backbones.specaware import backbone as specaware


@dataclass(frozen=True)
class Row:
    """A backbone.

    build         : the network that settings name, with first weights drawn from torch's generator
    rebuild       : the network of the sizes that its `sizes()` gave
    require_bands : what its method of that name does, before there is a network
    adopt         : the network of the state dicts of published files, with what no shape tells and the files' names;
                    none: there are no published files
    """

    build: Callable[[StudentSettings], Backbone]
    rebuild: Callable[[dict[str, Any]], Backbone]
    require_bands: Callable[[Sequence[float]], None]
    adopt: Callable[[Sequence[Mapping[str, Tensor]], Mapping[str, Any], str], Backbone] | None = None


BACKBONES = {
    "hyperfree": Row(hyperfree.build, hyperfree.rebuild, hyperfree.require_bands, hyperfree.adopt),
    "hypersigma": Row(hypersigma.build, hypersigma.rebuild, hypersigma.require_bands, hypersigma.adopt),
    "hypersl": Row(hypersl.build, hypersl.rebuild, hypersl.require_bands, hypersl.adopt),
    "specaware": Row(specaware.build, specaware.rebuild, specaware.require_bands, specaware.adopt),
}


def backbone_row(name: str) -> Row:
    """The row of a name; ConfigError for a name that no row has."""
    if name not in BACKBONES:
        raise ConfigError(f"pretrain.student.backbone {name!r} is unknown; there are: {', '.join(BACKBONES)}")
    return BACKBONES[name]
