"""The backbones there are, one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from hvlabel.config import MaskedSettings, StudentSettings
from hvlabel.errors import ConfigError
from hvtrain.backbones import hyperfree
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.hypersigma import backbone as hypersigma
from hvtrain.backbones.hypersigma.masked import spatial_mae
from hvtrain.backbones.hypersigma.masked import spectral_mae as spectral_mae_of_groups
from hvtrain.backbones.hypersl import backbone as hypersl
from hvtrain.backbones.hypersl.masked import spectral_mae
from hvtrain.backbones.parts.autoencoder import Autoencoder
from hvtrain.backbones.specaware import backbone as specaware
from hvtrain.backbones.specaware.masked import hyper_mae


@dataclass(frozen=True)
class Row:
    """A backbone.

    build         : the network that settings name, with first weights drawn from torch's generator
    rebuild       : the network of the sizes that its `sizes()` gave
    require_bands : what its method of that name does, before there is a network
    adopt         : the network of the state dicts of published files, with what no shape tells and the files' names;
                    none: there are no published files
    autoencoders  : masked autoencoders around the network, by their names in `pretrain.objective`
    """

    build: Callable[[StudentSettings], Backbone]
    rebuild: Callable[[dict[str, Any]], Backbone]
    require_bands: Callable[[Sequence[float]], None]
    adopt: Callable[[Sequence[Mapping[str, Tensor]], Mapping[str, Any], str], Backbone] | None = None
    autoencoders: Mapping[str, Callable[[Backbone, MaskedSettings], Autoencoder]] = field(default_factory=dict)


BACKBONES = {
    "hyperfree": Row(hyperfree.build, hyperfree.rebuild, hyperfree.require_bands, hyperfree.adopt),
    "hypersigma": Row(
        hypersigma.build,
        hypersigma.rebuild,
        hypersigma.require_bands,
        hypersigma.adopt,
        {"spatial_mae": spatial_mae, "spectral_mae": spectral_mae_of_groups},
    ),
    "hypersl": Row(
        hypersl.build, hypersl.rebuild, hypersl.require_bands, hypersl.adopt, {"spectral_mae": spectral_mae}
    ),
    "specaware": Row(
        specaware.build, specaware.rebuild, specaware.require_bands, specaware.adopt, {"hyper_mae": hyper_mae}
    ),
}


def backbone_row(name: str) -> Row:
    """The row of a name; ConfigError for a name that no row has."""
    if name not in BACKBONES:
        raise ConfigError(f"pretrain.student.backbone {name!r} is unknown; there are: {', '.join(BACKBONES)}")
    return BACKBONES[name]


def autoencoder_of(name: str, backbone: Backbone, settings: MaskedSettings) -> Autoencoder:
    """A masked autoencoder around a backbone; ConfigError if its family has none of that name."""
    possible = backbone_row(backbone.name).autoencoders
    if name not in possible:
        instead = f"it has {' and '.join(possible)}" if possible else "it has none"
        homes = [other for other, row in BACKBONES.items() if name in row.autoencoders]
        raise ConfigError(
            f"pretrain.objective {name} is no masked autoencoder of backbone {backbone.name}: {instead}; "
            f"{name} is of {' and '.join(homes)}"
        )
    return possible[name](backbone, settings)
