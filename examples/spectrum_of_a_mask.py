"""Mean spectrum under each of an image's best masks, as a CSV table.

python examples/spectrum_of_a_mask.py results demo-vis31/vis31_00
"""

import csv
import sys
from pathlib import Path

from hvlabel.cube import open_cube
from hvlabel.layout import Layout
from hvlabel.masks import decode, read_masks

N_BEST = 5


def main(results: str, image: str) -> None:
    """Print one row per band: its centre in nm, then the mean value under each mask, best mask first."""
    dataset, image_id = image.split("/")
    layout = Layout(Path(results))
    cube = open_cube(layout.cube(dataset, image_id))
    values = cube.values()  # (C, H, W) float32 physical values, bands in file order
    label = read_masks(layout.label(dataset, image_id))
    spectra = []
    for mask in label.masks[:N_BEST]:
        inside = decode(mask.rle)  # (H, W) bool
        spectra.append(values[:, inside].mean(axis=1))
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["nm", *(f"mask {k}" for k in range(len(spectra)))])
    for centre_nm, *means in zip(cube.wavelengths_nm, *spectra, strict=True):
        table.writerow([f"{centre_nm:.4g}", *(f"{mean:.4g}" for mean in means)])


if __name__ == "__main__":
    main(*sys.argv[1:])
