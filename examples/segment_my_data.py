"""Classes for all cubes of a folder from a few label pictures: a linear probe on the features of a frozen backbone.

python examples/segment_my_data.py BACKBONE CUBES LABELS OUT
CUBES: folder of NAME.zarr. LABELS: NAME.png for some of them, the grey value is the class, 255 where none is known
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from hvtrain import Backbone, Probe

UNKNOWN = 255


def main(weights: str, cubes: str, labels: str, out: str) -> None:
    """Write a label picture for every cube."""
    backbone = Backbone.load(weights)

    def of_pixels(path: Path) -> np.ndarray:
        return backbone.features(path).at_pixels()[0].movedim(0, -1).numpy()  # (H, W, D)

    vectors, classes = [], []
    for path in sorted(Path(labels).glob("*.png")):
        label = np.array(Image.open(path))  # (H, W)
        known = label != UNKNOWN
        vectors.append(of_pixels(Path(cubes, f"{path.stem}.zarr"))[known])
        classes.append(label[known])
    probe = Probe().fit(np.concatenate(vectors)[::4], np.concatenate(classes)[::4])  # neighbours are alike
    Path(out).mkdir(exist_ok=True)
    for path in sorted(Path(cubes).glob("*.zarr")):
        image = of_pixels(path)
        predicted = probe.predict(image.reshape(-1, image.shape[-1]))
        Image.fromarray(predicted.reshape(image.shape[:2])).save(Path(out, f"{path.stem}.png"))


if __name__ == "__main__":
    main(*sys.argv[1:])
