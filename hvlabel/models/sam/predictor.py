"""Prompts on RGB pictures and false-colour composites through SAM."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.errors import PictureError
from hvlabel.models.batches import Ceilings
from hvlabel.models.padding import fitted, padded
from hvlabel.models.prompts import PaddedEmbedding, PaddedPredictor
from hvlabel.models.sam.network import Sam

# of red, green and blue of the pictures that SAM was trained on, grey levels 0..255
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
FLOAT_TOL = 1e-3  # by which a float picture may exceed 1


class SamPredictor(PaddedPredictor):
    """Embeds pictures and decodes prompts on them.

    half : compute in bfloat16; what comes out is float32 all the same, logits of decode_above excepted
    """

    network: Sam

    def __init__(self, network: Sam, *, half: bool = False, ceilings: Ceilings | None = None) -> None:
        super().__init__(network, half=half, ceilings=ceilings)

    def prepare(self, image: np.ndarray) -> tuple[Tensor, tuple[int, int]]:
        """(1, 3, S, S) float32 network input and the size of the picture in it.

        image : (H, W, 3) uint8, or float in [0, 1]; scaled to longest side S (antialiased), normalised, then padded
                with zeros, which are the mean colour
        """
        contiguous = np.ascontiguousarray(grey_levels(image))  # torch takes no negative strides
        levels = torch.as_tensor(contiguous, device=self.device)
        picture = levels.float().permute(2, 0, 1)[None]  # (1, 3, H, W)
        x, size = fitted(picture, self.side_px)
        mean = x.new_tensor(PIXEL_MEAN).view(3, 1, 1)
        std = x.new_tensor(PIXEL_STD).view(3, 1, 1)
        return padded((x - mean) / std, self.side_px), size

    @torch.inference_mode()
    def embed(self, image: np.ndarray) -> PaddedEmbedding:
        """Embedding of an (H, W, 3) picture, uint8 or float in [0, 1]."""
        x, size = self.prepare(image)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half):
            features = self.network.encode(x)
        original_hw = (image.shape[0], image.shape[1])
        return PaddedEmbedding(features.float(), original_hw, size)

    def tokens(self, rgb: np.ndarray) -> np.ndarray:
        """(g, g, 256) float32 features of an (H, W, 3) picture, for a student; padding is left out.

        The grid spans the picture: one that is not square fills fewer rows or columns of the network's, which are
        interpolated to all.
        """
        embedding, grid = self.embed(rgb), self.prompt_encoder.grid
        rows, columns = (max(1, round(n * grid / self.side_px)) for n in embedding.resized_hw)
        features = embedding.features[..., :rows, :columns]
        if (rows, columns) != (grid, grid):
            features = F.interpolate(features, size=(grid, grid), mode="bilinear", align_corners=False)
        channels_last = features[0].permute(1, 2, 0)  # (g, g, 256)
        return channels_last.cpu().numpy()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device


def grey_levels(image: np.ndarray) -> np.ndarray:
    """An (H, W, 3) picture as grey levels 0..255: uint8 as it is, floats in [0, 1] times 255.

    PictureError for other types and ranges: unscaled floats look black to the network, which then finds nothing.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise PictureError(f"a picture of shape {image.shape} has no three channels; expected (height, width, 3)")
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise PictureError(f"a picture of type {image.dtype}; expected uint8, or floats in [0, 1]")
    low = float(image.min())
    high = float(image.max())
    if not (low >= -FLOAT_TOL and high <= 1 + FLOAT_TOL):  # also false where a value is not a number
        raise PictureError(f"a float picture with values {low:g} to {high:g}; expected [0, 1], or uint8 grey levels")
    return np.asarray(image, np.float32) * np.float32(255)
