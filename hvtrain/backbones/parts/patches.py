"""Pixels of patches, as masked autoencoders predict them."""

from __future__ import annotations

from torch import Tensor


def patches(cube: Tensor, patch_px: int) -> Tensor:
    """(B, N, k * k * C) pixels of each patch of (B, C, H, W): row in the patch, column in it, band."""
    height, width = cube.shape[-2:]
    n_rows, n_columns = height // patch_px, width // patch_px
    whole = cube[..., : n_rows * patch_px, : n_columns * patch_px]  # a convolution of that stride drops the rest too
    by_column = whole.unflatten(3, (n_columns, patch_px))  # (B, C, H, w, k)
    split = by_column.unflatten(2, (n_rows, patch_px))  # (B, C, h, k, w, k)
    by_patch = split.permute(0, 2, 4, 3, 5, 1)  # (B, h, w, k, k, C)
    return by_patch.flatten(3).flatten(1, 2)
