"""Multi-scale features of a whole cube."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor

from hvlabel.cache.publish import publish_folder, temporary_beside
from hvlabel.cube import open_cube
from hvlabel.models.padding import fitted, padded
from hvlabel.models.weights import file_sha256
from hvtrain.backbones.contract import Backbone
from hvtrain.data.inputs import in_range
from hvtrain.student import load_exported


@torch.inference_mode()
def write_maps(
    cube_path: Path,
    out: Path,
    checkpoint: Path,
    merge_blocks: Sequence[int] | None = None,
    image_size_px: int | None = None,
    gsd_m: float = 1.0,
) -> list[tuple[int, ...]]:
    """Publish a Zarr group with arrays scale0, scale1, ... of (D, h, w) float32, padding cut off; returns their shapes.

    The cube is fed as the published predictor does: its longest side resized to the network's input.
    CubeError, WeightsError, BandError for what does not fit.
    """
    cube = open_cube(cube_path)
    network = load_exported(checkpoint, image_size_px, merge_blocks)
    side_px = network.side_px
    longest_px = max(cube.height_px, cube.width_px)
    wavelengths_nm = cube.live_wavelengths_nm.tolist()  # a dead band has nothing to tell
    image = cube.live_values().transpose(1, 2, 0)  # (H, W, C)
    x, (height, width) = _input(network, image)
    input_gsd_m = gsd_m * longest_px / side_px
    maps = network.encode(x, wavelengths_nm, [input_gsd_m])
    cut = []
    for features in maps:
        # cells that the image reaches into, rounded up
        rows = -(-height * features.shape[2] // side_px)
        columns = -(-width * features.shape[3] // side_px)
        cut.append(features[0, :, :rows, :columns].cpu().numpy())
    temporary = temporary_beside(out)
    try:
        group = zarr.create_group(temporary, overwrite=True)
        for k, values in enumerate(cut):
            group.create_array(f"scale{k}", data=values, dimension_names=("channel", "y", "x"))
        group.attrs.update(
            {
                "stride_px": [longest_px / features.shape[2] for features in maps],
                "wavelengths_nm": wavelengths_nm,
                "checkpoint_sha256": file_sha256(checkpoint),
            }
        )
        publish_folder(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [values.shape for values in cut]


def _input(network: Backbone, image: np.ndarray) -> tuple[Tensor, tuple[int, int]]:
    """(1, C, S, S) network input of an (H, W, C) image, zeros right of and below it, and its size (h, w) px there."""
    x = torch.as_tensor(np.ascontiguousarray(image)).float()
    x = x.permute(2, 0, 1)[None]  # (1, C, H, W)
    x, size_px = fitted(x, network.side_px)
    return padded(in_range(x, network.input_range), network.side_px), size_px
