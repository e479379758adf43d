"""What a backbone is. A new one is a file beside this one with a subclass of `Backbone`, and a row in `table`.

A backbone turns a cube of any camera into maps of features. It is an ordinary torch module: its state dict is what a
run exports, in the layout in which its authors publish it, if they do. How it is trained is no affair of its own: masks
are asked for through a prompt decoder, which `hvtrain.student` adds to a backbone that brings none.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.data.inputs import InputRange


class Backbone(nn.Module, ABC):
    """A network from cubes to feature maps.

    name        : its row in the table
    input_range : how stored values become its input
    dim         : channels D of the last map
    side_px     : side of the square input that it was made for
    stride_px   : px of the input along a side of the last map's cell, at least 4
    """

    name: ClassVar[str]
    input_range: ClassVar[InputRange]
    dim: int
    side_px: int
    stride_px: int

    @abstractmethod
    def encode(
        self,
        cube: Tensor,
        wavelengths_nm: Sequence[float],
        gsd_m: Sequence[float],
        *,
        rng: random.Random | None = None,
    ) -> FeatureMaps:
        """Feature maps of images of one camera.

        cube           : (B, C, S, S) float32 in `input_range`
        wavelengths_nm : (C,) band centres in the order of the channels, any sequence
        gsd_m          : (B,) ground sampling distance, m per px of the input
        rng            : source of what the network draws at random in training; none: the same input, the same maps
        BandError as require_bands.
        """

    @abstractmethod
    def require_bands(self, wavelengths_nm: Sequence[float]) -> None:
        """BandError, one sentence, if no feature can be made from these band centres (C,), nm."""

    @abstractmethod
    def sizes(self) -> dict[str, Any]:
        """What `rebuild` of its row needs to make it again, as JSON can hold it."""

    def published_state(self) -> dict[str, Tensor]:
        """The state dict in the layout of its authors, which may leave out what their files do not hold."""
        return self.state_dict()

    def may_be_missing(self) -> tuple[str, ...]:
        """Starts of names of weights that a file may lack: they keep their first values."""
        return ()

    def unread(self) -> tuple[str, ...]:
        """Starts of names of weights that a file may hold and this network does not."""
        return ()

    def position_tables(self) -> frozenset[str]:
        """Names of weights (2g - 1, d) that depend on the image size; those of another size are interpolated."""
        return frozenset()

    def save_memory(self) -> None:
        """Recompute parts in the backward pass, if the network can; the results stay the same."""

    def compile_blocks(self) -> None:
        """Compile what repeats, if the network has such parts."""
