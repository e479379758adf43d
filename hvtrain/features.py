"""Multi-scale features of a whole cube."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import zarr

from hvlabel.cache.publish import publish_folder, temporary_beside
from hvlabel.cube import open_cube
from hvlabel.models.hyperfree import HyperFreePredictor
from hvlabel.models.weights import file_sha256
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

    The cube is fed as the published predictor does: longest side resized to the network's input, divided by its maximum.
    CubeError, WeightsError, BandError for what does not fit.
    """
    cube = open_cube(cube_path)
    network = load_exported(checkpoint, image_size_px, merge_blocks)
    side = network.topology.image_size_px
    predictor = HyperFreePredictor(network, cube.live_wavelengths_nm.tolist(), gsd_m)
    x, (height, width) = predictor.prepare(cube.live_values().transpose(1, 2, 0))
    maps = network.encode(x, predictor.wavelengths_nm, [gsd_m * max(cube.height_px, cube.width_px) / side])
    cut = [m[0, :, : -(-height * m.shape[2] // side), : -(-width * m.shape[3] // side)].cpu().numpy() for m in maps]
    temporary = temporary_beside(out)
    try:
        group = zarr.create_group(temporary, overwrite=True)
        for k, values in enumerate(cut):
            group.create_array(f"scale{k}", data=values, dimension_names=("channel", "y", "x"))
        group.attrs.update(
            {
                "stride_px": [max(cube.height_px, cube.width_px) / m.shape[2] for m in maps],
                "wavelengths_nm": predictor.wavelengths_nm,
                "checkpoint_sha256": file_sha256(checkpoint),
            }
        )
        publish_folder(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [v.shape for v in cut]
