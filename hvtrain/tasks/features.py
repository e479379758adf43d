"""Multi-scale features of a whole cube."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import zarr

from hvlabel.cache.publish import publish_folder, temporary_beside
from hvlabel.cube import open_cube
from hvlabel.models.weights import file_sha256
from hvtrain.backbones.whole_image import maps_of_images
from hvtrain.student import load_exported


@torch.inference_mode()
def write_maps(
    cube_path: Path | str,
    out: Path | str,
    checkpoint: Path | str,
    merge_blocks: Sequence[int] | None = None,
    image_size_px: int | None = None,
    gsd_m: float = 1.0,
) -> list[tuple[int, ...]]:
    """Publish a Zarr group with arrays scale0, scale1, ... of (D, h, w) float32, padding cut off; returns their shapes.

    The cube is fed as the published predictor does: its longest side resized to the network's input.
    CubeError, WeightsError, BandError for what does not fit.
    """
    out, checkpoint = Path(out), Path(checkpoint)
    cube = open_cube(cube_path)
    network = load_exported(checkpoint, image_size_px, merge_blocks)
    wavelengths_nm = cube.live_wavelengths_nm.tolist()  # a dead band has nothing to tell
    channels_last = cube.live_values().transpose(1, 2, 0)
    by_pixel = np.ascontiguousarray(channels_last)  # (H, W, C): torch's last digits follow this
    image = torch.from_numpy(by_pixel).permute(2, 0, 1)[None]  # (1, C, H, W)
    features = maps_of_images(network, image, wavelengths_nm, gsd_m)
    maps = [of_scale[0].cpu().numpy() for of_scale in features.maps]
    temporary = temporary_beside(out)
    try:
        group = zarr.create_group(temporary, overwrite=True)
        for k, values in enumerate(maps):
            group.create_array(f"scale{k}", data=values, dimension_names=("channel", "y", "x"))
        group.attrs.update(
            {
                "stride_px": list(features.strides_px),
                "wavelengths_nm": wavelengths_nm,
                "checkpoint_sha256": file_sha256(checkpoint),
            }
        )
        publish_folder(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [values.shape for values in maps]
