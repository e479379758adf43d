"""Prompts on a cube of one camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hvlabel.models.batches import Ceilings
from hvlabel.models.hyperfree.network import HyperFree
from hvlabel.models.padding import fitted, padded
from hvlabel.models.prompts import PaddedEmbedding, PaddedPredictor


class HyperFreePredictor(PaddedPredictor):
    """Embeds images of one camera and decodes prompts on them.

    gsd_m    : ground sampling distance of the raw image, m per pixel
    half     : compute in bfloat16; what comes out is float32 all the same, logits of decode_above excepted
    ceilings : of batches, kept from image to image
    """

    network: HyperFree

    def __init__(
        self,
        network: HyperFree,
        wavelengths_nm: Sequence[float],
        gsd_m: float = 1.0,
        *,
        half: bool = False,
        ceilings: Ceilings | None = None,
    ) -> None:
        super().__init__(network, half=half, ceilings=ceilings)
        self.wavelengths_nm = [float(nm) for nm in wavelengths_nm]
        self.gsd_m = gsd_m

    def prepare(self, image: np.ndarray) -> tuple[Tensor, tuple[int, int]]:
        """(1, C, S, S) float32 network input and the size of the image in it.

        image : (H, W, C), any unit; resized to longest side S (antialiased), divided by its maximum, zero-padded
        """
        device = next(self.network.parameters()).device
        contiguous = np.ascontiguousarray(image)  # torch takes no negative strides
        values = torch.as_tensor(contiguous, device=device).float()
        cube = values.permute(2, 0, 1)[None]  # (1, C, H, W)
        x, size = fitted(cube, self.side_px)
        peak = x.max()
        divisor = torch.where(peak == 0, torch.ones_like(peak), peak)
        return padded(x / divisor, self.side_px), size

    @torch.inference_mode()
    def embed(self, image: np.ndarray) -> PaddedEmbedding:
        """Embedding of an (H, W, C) image."""
        x, size = self.prepare(image)
        original = (image.shape[0], image.shape[1])
        gsd_m = self.gsd_m * max(original) / self.side_px  # of a pixel of the input
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half):
            maps = self.network.encode(x, self.wavelengths_nm, [gsd_m])
            features = maps[-1]  # the neck's, which prompts are decoded on
        return PaddedEmbedding(features.float(), original, size)
