"""The heads of downstream tasks there are, one row each: built from sizes, or again from a state dict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hvlabel.errors import ConfigError, WeightsError
from hvtrain.heads.agunet import AttentionUNet
from hvtrain.heads.car import CarHead
from hvtrain.heads.center import CentreHead
from hvtrain.heads.deeplab import DeepLabV3Plus
from hvtrain.heads.ladder import Ladder
from hvtrain.heads.linear import LinearHead
from hvtrain.heads.unet import UNet
from hvtrain.heads.xcorr import XCorrHead

FRAMEWORK = "model."  # before every name, as the benchmark's own training saves them
OF_LOSS = ("criterion.",)  # weights of its loss, no part of a network
COUNTER = "num_batches_tracked"
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Row:
    """A head.

    takes : a picture (B, C, H, W), a View with maps, or the maps of two crops (template and search) of a sequence
    build : (n_channels, n_classes, **options) -> network with first weights drawn from torch's generator
    sizes : n_channels, n_classes and options that a state dict's shapes tell; KeyError where it is another head's
    """

    takes: Literal["picture", "view", "crops"]
    build: Callable[..., nn.Module]
    sizes: Callable[[State], dict[str, Any]]


def build_head(name: str, n_channels: int = 0, n_classes: int = 0, **options: Any) -> nn.Module:
    """A head with first weights; ConfigError for an unknown name or option, for no class, and for too few cells.

    n_channels : of the picture; of `ladder` 0 leaves out the skips, `linear` has none
    n_classes  : of dense heads; those of tracking have none
    options    : width (unet, runet, agunet; ladder: channels of the tap), reduced (unet, runet), gates (ladder),
                 widths (linear: channels of each map); center, xcorr, car: widths, grid (cells along a side of the
                 last map), width
    """
    row = head_row(name)
    is_dense = row.takes != "crops"
    if is_dense and (n_classes < 1 or n_channels < (1 if row.takes == "picture" else 0)):
        raise ConfigError(f"head {name}: {n_channels} channels and {n_classes} classes; give at least one of each")
    try:
        return row.build(n_channels, n_classes, **options)
    except TypeError as error:  # an option that it does not have, or lacks
        raise ConfigError(f"head {name}: {error}; see build_head for its options") from error


def load_head(name: str, state_dict: State, **options: Any) -> nn.Module:
    """The head of a state dict, in evaluation mode; its sizes follow from the shapes.

    state_dict : tensors or numpy arrays of any float type
    options    : what no shape tells: grid (center, xcorr, car)
    A leading `model.` and the weights of a loss are taken off. WeightsError for another network's state dict;
    ConfigError for an option that is missing.
    """
    row = head_row(name)
    with _refusing_others(name):
        state = _cleaned(state_dict)
        sizes = row.sizes(state) | options
    if row.takes == "crops" and "grid" not in sizes:
        raise ConfigError(f"head {name}: no shape tells how many cells its maps have along a side; give grid")
    with _refusing_others(name):
        network = row.build(**sizes)
        # counters of norms change nothing and are often left out; anything else has to be there
        own = network.state_dict()
        counters = {key: tensor for key, tensor in own.items() if key.endswith(COUNTER)}
        network.load_state_dict(counters | state)
    return network.eval()


@contextmanager
def _refusing_others(name: str) -> Iterator[None]:
    """WeightsError for whatever another network's state dict leads to."""
    try:
        yield
    except (KeyError, RuntimeError, IndexError, ValueError, TypeError, AttributeError) as error:
        gist = " ".join(str(error).split())[:100]
        raise WeightsError(
            f"state dict: not of the head {name} ({gist}); choose another head or file, and of a "
            "training's checkpoint give the entry state_dict"
        ) from error


def head_row(name: str) -> Row:
    """The row of a name; ConfigError for a name that no row has."""
    if name not in HEADS:
        raise ConfigError(f"head {name!r} is unknown; there are: {', '.join(HEADS)}")
    return HEADS[name]


def heads_of(*takes: str) -> list[str]:
    """Names of the heads that take one of these."""
    return [name for name, row in HEADS.items() if row.takes in takes]


def _cleaned(state: State) -> dict[str, Tensor]:
    """A state dict by the network's own names."""
    cleaned = {}
    for key, tensor in state.items():
        name = key.removeprefix(FRAMEWORK)
        values = torch.as_tensor(tensor).float()
        if not name.startswith(OF_LOSS):
            cleaned[name] = values
    return cleaned


def _unet_sizes(state: State) -> dict[str, Any]:
    width, n_in = state["inc.double_conv.0.weight"].shape[:2]
    n_classes = len(state["outc.conv.weight"])
    sizes = {"n_channels": n_in, "n_classes": n_classes, "width": width}
    if "dr_layer.weight" in state:
        # the image's channels meet this layer; the U-Net itself begins with the reduced ones
        n_channels = state["dr_layer.weight"].shape[1]
        sizes |= {"n_channels": n_channels, "reduced": n_in}
    return sizes


def _deeplab_sizes(state: State) -> dict[str, Any]:
    squeeze = state.get("input_layer.weight")
    return {
        "n_channels": 3 if squeeze is None else squeeze.shape[1],
        "n_classes": len(state["classifier.classifier.3.weight"]),
    }


def _ladder_sizes(state: State) -> dict[str, Any]:
    skip = state.get("steps.0.skip.0.weight")
    return {
        "n_channels": 0 if skip is None else skip.shape[1],
        "n_classes": len(state["out.weight"]),
        "width": state["steps.0.narrow.weight"].shape[1],
        "gates": "steps.0.gate.conv1x1_g.weight" in state,
    }


def _linear(n_channels: int, n_classes: int, **options: Any) -> nn.Module:
    """A linear head, which sees no picture."""
    del n_channels
    return LinearHead(n_classes, **options)


def _linear_sizes(state: State) -> dict[str, Any]:
    # how the channels are shared among maps does not matter to the weights
    n_classes, width = state["out.weight"].shape[:2]
    return {"n_channels": 0, "n_classes": n_classes, "widths": (width,)}


def _of_crops(network: Callable[..., nn.Module], n_channels: int, n_classes: int, **options: Any) -> nn.Module:
    """A head that follows one object: it sees no picture and knows no classes."""
    del n_channels, n_classes
    return network(**options)


def _center_sizes(state: State) -> dict[str, Any]:
    width, together = state["adjust.0.weight"].shape[:2]
    return {"n_channels": 0, "n_classes": 0, "widths": (together,), "width": width}


def _levels_sizes(state: State) -> dict[str, Any]:
    first = "levels.adjust.0.0.weight"
    width = len(state[first])
    layers = [key for key in state if key.startswith("levels.adjust.") and key.endswith(".0.weight")]
    # by number: a file may hold its names in any order, and 10 before 2
    in_order = [state[f"levels.adjust.{k}.0.weight"] for k in range(len(layers))]
    widths = tuple(layer.shape[1] for layer in in_order)
    return {"n_channels": 0, "n_classes": 0, "widths": widths, "width": width}


HEADS = {
    "linear": Row("view", _linear, _linear_sizes),
    "ladder": Row("view", Ladder, _ladder_sizes),
    "unet": Row("picture", partial(UNet, norms=False, dropout=0.0), _unet_sizes),
    "runet": Row("picture", UNet, _unet_sizes),
    "agunet": Row("picture", AttentionUNet, _unet_sizes),
    "deeplabv3plus": Row("picture", DeepLabV3Plus, _deeplab_sizes),
    "center": Row("crops", partial(_of_crops, CentreHead), _center_sizes),
    "xcorr": Row("crops", partial(_of_crops, XCorrHead), _levels_sizes),
    "car": Row("crops", partial(_of_crops, CarHead), _levels_sizes),
}
