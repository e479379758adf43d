"""Networks as their authors published them: of a state dict, and the sizes that no shape tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from hvlabel.errors import ConfigError
from hvtrain.backbones.hypersigma import files as hypersigma_files
from hvtrain.backbones.hypersl import files as hypersl_files
from hvtrain.backbones.parts.states import cleaned
from hvtrain.backbones.specaware import files as specaware_files

FAMILIES: dict[str, Callable[[Mapping[str, Tensor], Mapping[str, Any], str], nn.Module]] = {
    "specaware": specaware_files.load,
    "hypersigma": hypersigma_files.load,
    "hypersl": hypersl_files.load,
}


def load_backbone(
    name: str, state_dict: Mapping[str, Any], config: Mapping[str, Any] | None = None, source: str = "state dict"
) -> nn.Module:
    """The network of a state dict in the published layout, in evaluation mode and float32.

    name       : one of FAMILIES; which of a family's networks it is follows from the names of the tensors
    state_dict : tensors or numpy arrays of any float type; prefixes such as `module.` are taken off
    config     : sizes by their published names; only those that no shape tells are read
    source     : its name in errors
    ConfigError for an unknown name; WeightsError for another network's state dict, or one that is not whole.
    """
    if name not in FAMILIES:
        raise ConfigError(f"no published family {name!r}; there are: {', '.join(FAMILIES)}")
    return FAMILIES[name](cleaned(state_dict), config or {}, source)
