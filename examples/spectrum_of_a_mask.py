"""Mean spectrum under each of an image's best masks, as a CSV table.

python examples/spectrum_of_a_mask.py results demo-vis31/vis31_00
"""

import sys
from pathlib import Path

from hvlabel.cube import open_cube
from hvlabel.layout import Layout
from hvlabel.masks import decode, read_masks


def main(results: str, image: str, n_best: int = 5) -> None:
    """Print one row per band: its centre in nm, then the mean value under each mask, best mask first."""
    dataset, image_id = image.split("/")
    layout = Layout(Path(results))
    cube = open_cube(layout.cube(dataset, image_id))
    values = cube.values()  # (C, H, W) float32 physical values, bands in file order
    best = read_masks(layout.label(dataset, image_id)).masks[:n_best]
    spectra = [values[:, decode(mask.rle)].mean(axis=1) for mask in best]  # each (C,)
    print(",".join(["nm", *(f"mask {k}" for k in range(len(best)))]))
    for row in zip(cube.wavelengths_nm, *spectra, strict=True):
        print(",".join(f"{value:.4g}" for value in row))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
