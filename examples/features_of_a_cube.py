"""Features of a cube by a trained backbone, shown as a picture: the three directions in which tokens differ most.

python examples/features_of_a_cube.py CUBE.zarr BACKBONE.safetensors out.png
BACKBONE: what `hvtrain export RUN FILE` wrote, or a published HyperFree file
"""

import subprocess
import sys
from tempfile import TemporaryDirectory

import numpy as np
import zarr
from PIL import Image


def main(cube: str, backbone: str, out: str) -> None:
    """Write the picture, one pixel per token of the last scale."""
    with TemporaryDirectory() as folder:
        maps_path = f"{folder}/maps.zarr"
        verb = [sys.executable, "-m", "hvtrain", "features", cube, maps_path, "--checkpoint", backbone]
        subprocess.run(verb, check=True)
        maps = zarr.open_group(maps_path, mode="r")
        last = f"scale{len(list(maps.array_keys())) - 1}"  # finest first
        features = np.asarray(maps[last])  # (D, h, w) float32
    n_channels, height, width = features.shape
    tokens = features.reshape(n_channels, -1).T
    centred = tokens - tokens.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2]
    colours = centred @ directions[:3].T  # (h * w, 3)
    low, high = np.percentile(colours, [2, 98], axis=0)
    stretched = ((colours - low) / (high - low)).clip(0, 1) * 255
    Image.fromarray(stretched.reshape(height, width, 3).astype(np.uint8)).save(out)
    print(f"{out}: {height} x {width} tokens of {n_channels} channels")


if __name__ == "__main__":
    main(*sys.argv[1:])
