"""Masks of the embedded networks on pictures that nobody generated, beside those of the weight-free regions.

python bench/embedded_pictures.py OUT [--house house_radiance_4band.npz]

Writes one JPEG per picture: two photographs that come with scikit-image, and, where its file is given, a cube of a
house (values under `cube`
(y, x, bands), band centres in nm under `wavelengths`).
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import skimage.data

from hvlabel.branches.generator import generate_masks
from hvlabel.branches.material import MaterialSettings, spectral_components
from hvlabel.branches.network import hyperfree_of
from hvlabel.branches.regions import multiscale_regions
from hvlabel.config import GeneratorSettings, HyperFreeModel, RegionSettings, Sam2Model
from hvlabel.cube.render import false_colour
from hvlabel.inspect.picture import overlay
from hvlabel.masks import Mask, ranked
from hvlabel.models.device import choose_device
from hvlabel.models.hyperfree import HyperFreePredictor
from hvlabel.models.sam2 import Sam2Predictor, load_sam2

SHOWN, SIDE_PX = 40, 512
SETTINGS = GeneratorSettings(mode="exact", pred_iou_thresh=0.3, stability_score_thresh=0.4, box_nms_thresh=0.75)


def panel(rgb: np.ndarray, masks: list[Mask]) -> np.ndarray:
    return overlay(rgb, ranked(masks, *rgb.shape[:2]), SHOWN)


def write(path: Path, panels: list[np.ndarray]) -> None:
    picture = np.concatenate(panels, axis=1)[:, :, ::-1]
    path.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--house", type=Path)
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    device = choose_device("auto")
    sam2 = Sam2Predictor(load_sam2(Sam2Model(checkpoint="embedded"), device))

    def of_photograph(rgb: np.ndarray) -> list[np.ndarray]:
        regions = multiscale_regions(rgb.astype(np.float32) / 255, RegionSettings(), "rgb")
        return [rgb, panel(rgb, generate_masks(sam2, rgb, SETTINGS, "rgb")), panel(rgb, regions)]

    for name in ("astronaut", "coffee"):
        photo = getattr(skimage.data, name)()
        height, width = photo.shape[:2]
        size = (SIDE_PX, round(height * SIDE_PX / width))
        write(a.out / f"embedded_{name}.jpg", of_photograph(cv2.resize(photo, size, interpolation=cv2.INTER_AREA)))
    if a.house:
        with np.load(a.house) as file:
            values, wavelengths_nm = file["cube"].astype(np.float32), file["wavelengths"].tolist()
        if values.shape[0] == len(wavelengths_nm):
            values = values.transpose(1, 2, 0)
        longest_first = np.argsort(wavelengths_nm)[::-1]
        rgb = (false_colour(values[:, :, longest_first[:3]].transpose(2, 0, 1)) * 255).astype(np.uint8)
        network = HyperFreePredictor(hyperfree_of(HyperFreeModel(checkpoint="embedded")).to(device), wavelengths_nm)
        material = MaterialSettings()
        components = spectral_components(values.transpose(2, 0, 1), material.n_components)
        write(
            a.out / "embedded_house.jpg",
            [
                *of_photograph(rgb),
                panel(rgb, generate_masks(network, values, SETTINGS, "material")),
                panel(rgb, multiscale_regions(components, material.regions, "material")),
            ],
        )


if __name__ == "__main__":
    main()
