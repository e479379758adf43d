"""Labels of real images beside objects that were outlined by hand: by agreement, by quality, by other predictors.

python bench/quality_hand.py RESULTS [PREDICTOR.json ...]
python bench/quality_hand.py photographs FOLDER

RESULTS     : a run whose data sets or images are named as in hand_outlines.yaml; of the real images
              docs/REAL_IMAGES.md has the descriptors
photographs : writes those that come with scikit-image, and photographs.yaml, a configuration that labels them

Rows: objects found (some mask has IoU .5 with it), mean best IoU of the objects, right ones of the masks.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import quality
import yaml
from skimage import data

from hvlabel.cache.index import all_indexes
from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import Cube, open_cube
from hvlabel.layout import Layout
from hvlabel.masks import Mask, MaskSet, encode, iou_matrix
from hvlabel.quality import load_predictor
from hvtrain.recipes import quality_examples

OUTLINES = Path(__file__).resolve().parent / "hand_outlines.yaml"
N_BEST = 10
PHOTOGRAPHS = ("coffee", "chelsea", "rocket", "astronaut")
LONGEST_PX = 256  # of a photograph
CENTRES_NM = [460, 540, 620]  # of blue, green and red


def outlined(cube: Cube, outlines: dict[str, Any]) -> MaskSet:
    """The objects of one image."""
    shape = (cube.height_px, cube.width_px)
    drawn = []
    for corners in outlines["polygons"].values():
        polygon = np.array(corners).reshape(-1, 2)
        drawn.append(cv2.fillPoly(np.zeros(shape, np.uint8), [polygon], 1))
    for x, y, radius_px in outlines.get("discs", {}).values():
        drawn.append(cv2.circle(np.zeros(shape, np.uint8), (x, y), radius_px, 1, cv2.FILLED))
    valid = np.ones(shape, bool) if cube.valid is None else cube.valid
    objects = [Mask(encode(d.astype(bool) & valid), 1.0, branch="truth", point_xy=(0.0, 0.0)) for d in drawn]
    return MaskSet(*shape, tuple(objects))


def images_of(results: Path) -> Iterator[quality.Scene]:
    """Every labelled image of which there are outlines."""
    outlines, layout = yaml.safe_load(OUTLINES.read_text()), Layout(results)
    for index in all_indexes(layout, "labels"):
        for image_id in index.images:
            name = index.dataset if index.dataset in outlines else image_id
            if name not in outlines:
                continue
            cube = open_cube(layout.cube(index.dataset, image_id))
            pool = quality_examples.pool_of(layout, index.dataset, image_id)
            yield quality.Scene(name, quality_examples.Picture.of(cube, pool, outlined(cube, outlines[name])))


def write_photographs(folder: Path) -> None:
    """The photographs as cubes of three bands, and a configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOGRAPHS:
        rgb = getattr(data, name)()[..., :3]
        scale = LONGEST_PX / max(rgb.shape[:2])
        small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        np.save(folder / f"{name}.npy", np.ascontiguousarray(small[..., ::-1]).astype(np.uint16))
    descriptor = {"container": "npy", "files": "*.npy", "wavelengths_nm": CENTRES_NM, "axes": "yxc"}
    tree = {
        "results": "results-photographs",
        "datasets": {"photographs": {"root": str(folder), "descriptor": descriptor}},
    }
    (folder / "photographs.yaml").write_text(yaml.safe_dump(tree))


def row(image: quality.Scene, who: str, label: MaskSet) -> dict[str, object]:
    """One line of the table."""
    iou = iou_matrix(label.rles, image.truth.rles)  # (masks, objects)
    of_mask, of_object = iou.max(axis=1, initial=0.0), iou.max(axis=0, initial=0.0)
    right = of_mask >= quality.RIGHT_IOU
    return {
        "image": image.dataset,
        "ranked by": who,
        "masks": len(label),
        "objects found": f"{(of_object >= quality.RIGHT_IOU).sum()} of {len(of_object)}",
        "mean best IoU": f"{of_object.mean():.2f}",
        "right of best 10": f"{right[:N_BEST].mean():.2f}",
        "right of all": f"{right.mean():.2f}",
    }


def main() -> None:
    if sys.argv[1] == "photographs":
        write_photographs(Path(sys.argv[2]).absolute())
        return
    results, *files = (Path(argument) for argument in sys.argv[1:])
    predictors = {"quality": load_predictor()} | {path.stem: load_predictor(path) for path in files}
    lines = []
    for image in images_of(results):
        by_agreement = image.label(FusionSettings(ranking="agreement"), predictors["quality"])
        lines.append(row(image, "agreement", by_agreement))
        for who, predictor in predictors.items():
            lines.append(row(image, who, image.label(FusionSettings(ranking="quality"), predictor)))
    quality.show(lines)


if __name__ == "__main__":
    main()
