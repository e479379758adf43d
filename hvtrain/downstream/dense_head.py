"""A head of the table behind what turns samples into what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.errors import ConfigError
from hvtrain.downstream.contract import Choice
from hvtrain.downstream.dense_inputs import PIXELS, input_of
from hvtrain.downstream.samples import Sample
from hvtrain.heads.table import build_head, head_row, heads_of
from hvtrain.heads.unet import SMALLEST_PX
from hvtrain.heads.views import View

HALVINGS = 16  # a ladder halves its width four times


@dataclass(frozen=True)
class HeadPlan:
    """What building a head takes, as JSON can hold it.

    pooled_px : side of the cells whose mean a head of maps sees of a picture; 0: it sees maps, or the picture itself
    """

    head: str
    n_channels: int
    n_classes: int
    pooled_px: int
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> DenseHead:
        """The head with first weights drawn from torch's generator."""
        network = build_head(self.head, self.n_channels, self.n_classes, **self.options)
        takes_picture = head_row(self.head).takes == "picture"
        return DenseHead(network, self.pooled_px, takes_picture=takes_picture)

    def require_samples(self, batch_images: int) -> None:
        """ConfigError for a batch that the head's norms cannot learn from."""
        if self.head == "deeplabv3plus" and batch_images < 2:
            raise ConfigError(
                "head deeplabv3plus: recipe.batch_images is 1, but its norms see one value per image; choose at least 2"
            )


class DenseHead(nn.Module):
    """View in, logits (B, K, H, W) out."""

    def __init__(self, network: nn.Module, pooled_px: int, *, takes_picture: bool) -> None:
        super().__init__()
        self.network = network
        self.pooled_px, self.takes_picture = pooled_px, takes_picture

    def forward(self, view: View) -> Tensor:
        """Logits of all pixels."""
        if self.takes_picture:
            # vectors of all pixels are a picture of many channels
            picture = view.maps[-1] if view.picture is None else view.picture
            return self.network(picture)
        if self.pooled_px:
            assert view.picture is not None
            # means of the pixels that are there: cells reach beyond the image as those of a backbone do
            cells = F.avg_pool2d(view.picture, self.pooled_px, ceil_mode=True, count_include_pad=False)
            view = View(view.size_px, None, [cells], float(self.pooled_px))
        return self.network(view)


def rebuilt_head(facts: Mapping[str, Any]) -> DenseHead:
    """The head of what its file says."""
    return HeadPlan(**facts["plan"]).build()


def head_plan(choice: Choice, example: Sample, n_classes: int, pooled_px: int) -> HeadPlan:
    """What a choice needs for samples like the example; ConfigError where head and input do not go together."""
    row, chosen = head_row(choice.head), input_of(choice.input)
    if row.takes == "crops":
        dense = ", ".join(heads_of("picture", "view"))
        raise ConfigError(f"head {choice.head} is for tracking; choose one of {dense}")
    n_channels = 0 if example.picture is None else len(example.picture)
    if row.takes == "picture":
        if chosen.shown == PIXELS:
            n_channels = len(example.maps[-1])
        elif chosen.shown:
            raise ConfigError(
                f"head {choice.head} takes a picture, not the maps of input {choice.input}; choose input cube, pca1, "
                "mean or rgb, or head ladder or linear"
            )
        height, width = example.labels.shape
        if min(height, width) < SMALLEST_PX:
            raise ConfigError(
                f"head {choice.head}: images of {height} x {width} px, its levels need {SMALLEST_PX} px a side; "
                "choose head linear"
            )
        return HeadPlan(choice.head, n_channels, n_classes, 0)
    if choice.head == "linear":
        if chosen.shown and chosen.picture:
            raise ConfigError("head linear sees no picture beside its maps; choose input features, or head ladder")
        widths = [len(of_scale) for of_scale in example.maps] or [n_channels]
        cell_px = 0 if example.maps else pooled_px
        return HeadPlan("linear", 0, n_classes, cell_px, {"widths": widths})
    if chosen.shown == PIXELS:
        raise ConfigError(
            f"head {choice.head} makes maps of cells finer, input {choice.input} is as fine as the image; choose head "
            "linear, or one that takes a picture"
        )
    if not chosen.shown:
        raise ConfigError(f"head {choice.head} needs maps of a backbone; choose input features or features+cube")
    # widths follow from the backbone's own
    width = len(example.maps[-1])
    if width % HALVINGS:
        raise ConfigError(f"head {choice.head}: {width} channels of the backbone are no multiple of {HALVINGS}")
    return HeadPlan(choice.head, n_channels, n_classes, 0, {"width": width})
