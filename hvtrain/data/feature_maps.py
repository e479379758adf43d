"""Features of a batch at one or several scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class FeatureMaps(Sequence[Tensor]):
    """Features of a batch at one or several scales; as a sequence, its maps.

    maps       : each (B, D, h, w), the one that prompts are decoded on last
    strides_px : px of the network's input along a side of each map's cell
    """

    maps: tuple[Tensor, ...]
    strides_px: tuple[float, ...]

    def __getitem__(self, k: Any) -> Any:
        return self.maps[k]

    def __len__(self) -> int:
        return len(self.maps)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.maps)

    @property
    def side_px(self) -> int:
        """Side of the network's input."""
        n_cells = self.maps[-1].shape[-1]
        return round(self.strides_px[-1] * n_cells)  # rounded: a stride may be a fraction that no float holds

    @classmethod
    def of(cls, maps: Sequence[Tensor], side_px: int) -> FeatureMaps:
        """Maps of a square input of side_px."""
        strides_px = tuple(side_px / of_scale.shape[-1] for of_scale in maps)
        return cls(tuple(maps), strides_px)
