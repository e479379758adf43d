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
        verb = [sys.executable, "-m", "hvtrain", "features", cube, f"{folder}/maps.zarr", "--checkpoint", backbone]
        subprocess.run(verb, check=True)
        maps = zarr.open_group(f"{folder}/maps.zarr", mode="r")
        last = max(maps.array_keys(), key=lambda name: int(name.removeprefix("scale")))
        features = np.asarray(maps[last])  # (D, h, w) float32
    tokens = features.reshape(len(features), -1).T
    tokens = tokens - tokens.mean(axis=0)
    directions = np.linalg.svd(tokens, full_matrices=False)[2][:3]
    colours = tokens @ directions.T  # (h * w, 3)
    low, high = np.percentile(colours, [2, 98], axis=0)
    scaled = ((colours - low) / (high - low)).clip(0, 1).reshape(*features.shape[1:], 3)
    Image.fromarray((scaled * 255).astype(np.uint8)).save(out)
    print(f"{out}: {features.shape[1]} x {features.shape[2]} tokens of {features.shape[0]} channels")


if __name__ == "__main__":
    main(*sys.argv[1:])
