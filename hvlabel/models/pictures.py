"""Pictures as networks take them that were trained on ImageNet: stretched to a square, normalised."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import normalize, resize

# of red, green and blue, values in [0, 1]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def network_input(rgb: np.ndarray, side_px: int, device: torch.device) -> Tensor:
    """(1, 3, S, S) float32 with ImageNet statistics, S = side_px.

    rgb : (H, W, 3) uint8, or float in [0, 1]
    """
    image = torch.as_tensor(np.ascontiguousarray(rgb), device=device)  # torch takes no negative strides
    x = image.permute(2, 0, 1).float()
    if rgb.dtype == np.uint8:
        x = x / 255
    stretched = resize(x, [side_px, side_px], antialias=True)
    normal = normalize(stretched, list(IMAGENET_MEAN), list(IMAGENET_STD))
    return normal[None]
