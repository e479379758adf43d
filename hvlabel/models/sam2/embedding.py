"""What SAM2's image encoder makes of one image."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Sam2Embedding:
    """One image's features; the image was stretched to the network's square input.

    features, codes : per level (1, D, h, w), finest first, as the package's forward_image gives them
    original_hw     : (height, width) px of the image
    """

    features: list[Tensor]
    codes: list[Tensor]
    original_hw: tuple[int, int]

    def upscaled(self, logits: Tensor) -> Tensor:
        """(N, h, w) low-resolution logits -> (N, H, W) float32 of the image."""
        single = logits[:, None].float()  # (N, 1, h, w)
        enlarged = F.interpolate(single, self.original_hw, mode="bilinear", align_corners=False)
        return enlarged[:, 0]
