"""How much a search crop is like a template, channel by channel, wherever the template is laid over it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def laid_over(search: Tensor, template: Tensor) -> Tensor:
    """(B, D, g - k + 1, g - k + 1) each channel of a search map (B, D, g, g) with its own template's (B, D, k, k).

    Means over the template's cells; only where all of them lie inside the search map.
    """
    n, channels, _, _ = search.shape
    side = template.shape[-1]
    kernels = template.reshape(n * channels, 1, side, side)
    # one group per channel of each sample: every crop meets its own template
    together = search.flatten(0, 1)[None]  # (1, B * D, g, g)
    flat = F.conv2d(together, kernels, groups=n * channels)
    sums = flat.reshape(n, channels, *flat.shape[2:])
    return sums / side**2


def correlated(search: Tensor, template: Tensor) -> Tensor:
    """(B, D, g, g) as `laid_over`, zeros around the search map."""
    return laid_over(padded(search, template.shape[-1]), template)


def padded(search: Tensor, side: int) -> Tensor:
    """Zeros around a map, so that what a kernel of `side` cells gives stands where the middle of the kernel lies."""
    before, after = side // 2, (side - 1) // 2
    return F.pad(search, (before, after, before, after))
