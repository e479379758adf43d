"""The quality predictor on real pictures: pieces of a real cube moved to another place of it are objects with truth.

python bench/quality_composed.py CUBE [CUBE ...] [--scenes 6] [--with RESULTS ...]

CUBE   : a converted real image; each is composed anew --scenes times
--with : runs that the predictor was trained on (hvtrain.recipes.quality). It is fitted again, on them and on what was
         composed of all other cubes, and judged on this one

What else is in a picture is not known. So only masks count that lie for a good part on what was moved. Rows: rank
correlation with the true IoU, how many of the ten best are right, distance of what is expected from what is true.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import quality
from scipy.stats import spearmanr

from hvlabel.config import CubeSettings
from hvlabel.config.tree import load_config
from hvlabel.cube import Cube, open_cube
from hvlabel.demo.canvas import blob
from hvlabel.descriptors import Descriptor
from hvlabel.fusion import agreement
from hvlabel.masks import Mask, MaskSet, areas, encode, union
from hvlabel.masks.rle import common
from hvlabel.quality import Predictor, load_predictor
from hvlabel.stages.convert import convert_file
from hvlabel.stages.segment import BranchRunner
from hvtrain.recipes import quality as recipe
from hvtrain.recipes import quality_examples

DEFAULTS = Path(__file__).resolve().parent.parent / "config" / "config.yaml"
SEED = 77
N_OBJECTS, RADIUS = (5, 9), (0.05, 0.16)  # of the shorter side
TRIED_PLACES = 12  # of which the one that differs most from what it will cover is taken
LEAST_CONTRAST = 0.4  # mean difference over the bands, in deviations of the image: less is no object to anybody
EDGE_SIGMA_PX = 0.7
MIN_VISIBLE = 0.6  # of an object that others cover in part
ON_MOVED = 0.3  # share of a mask that must lie on what was moved, for its truth to be known


@dataclass(frozen=True)
class Composed:
    """A composed picture, the masks of the branches, and the objects that were moved."""

    cube: Cube
    pool: list[Mask]
    truth: MaskSet

    def judged(self) -> np.ndarray:
        """(N,) bool: masks of the pool of which the truth is known."""
        moved = union(self.truth.rles, self.truth.height_px, self.truth.width_px)
        on_moved_px = areas([common(mask.rle, moved) for mask in self.pool])
        return on_moved_px >= ON_MOVED * areas([mask.rle for mask in self.pool])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cubes", type=Path, nargs="+")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--with", dest="trained_on", type=Path, nargs="+", default=[])
    given = parser.parse_args()
    config = load_config(DEFAULTS).resolved()
    runners = [BranchRunner(name, s, config.run) for name, s in config.on(config.fusion.branches or ()).items()]
    random = np.random.default_rng(SEED)
    scenes = {}
    for path in given.cubes:
        cube = open_cube(path)
        scenes[path.stem] = [composed(cube, runners, random) for _ in range(given.scenes)]
    predictor, lines = load_predictor(), []
    generated = (
        quality_examples.collect(given.trained_on, np.random.default_rng(recipe.SEED)) if given.trained_on else None
    )
    for name, own in scenes.items():
        lines += rows(name, own, predictor, "the shipped predictor", beside=True)
        if generated is not None:
            others = [examples(scene) for other, of_other in scenes.items() if other != name for scene in of_other]
            fitted = Predictor.of(recipe.fit(quality_examples.joined([generated, *others])))
            lines += rows(name, own, fitted, "fitted on other real pictures too", beside=False)
    quality.show(lines)


def composed(cube: Cube, runners: Sequence[BranchRunner], random: np.random.Generator) -> Composed:
    """One picture and what the branches find in it."""
    values = cube.live_values()  # (C, H, W)
    moved, objects = with_moved_pieces(values, random)
    folder = Path(tempfile.mkdtemp())
    np.save(folder / "scene.npy", np.ascontiguousarray(moved.transpose(1, 2, 0)))
    descriptor = Descriptor(container="npy", wavelengths_nm=cube.live_wavelengths_nm.tolist())
    convert_file(folder / "scene.npy", descriptor, CubeSettings(), folder / "scene.zarr")
    scene = open_cube(folder / "scene.zarr")
    pool = [mask for runner in runners for mask in runner.masks(scene).masks]
    truth = tuple(Mask(encode(o), 1.0, branch="truth", point_xy=(0.0, 0.0)) for o in objects)
    return Composed(scene, pool, MaskSet(scene.height_px, scene.width_px, truth))


def with_moved_pieces(values: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Values (C, H, W) with pieces moved, and what is seen of each of them, (H, W) bool."""
    _, height, width = values.shape
    out: np.ndarray = values.astype(np.float32)
    spread = values.std(axis=(1, 2)) + 1e-6  # (C,)
    number = np.full((height, width), -1)  # the object at each pixel
    full_px: list[int] = []
    for _ in range(int(random.integers(*N_OBJECTS))):
        centre = np.array([random.uniform(0, width), random.uniform(0, height)])
        radius_px = random.uniform(*RADIUS) * min(height, width)
        mask = blob(max(height, width), centre, radius_px, random)[:height, :width]
        y, x = np.nonzero(mask)
        if len(y) < quality_examples.MIN_AREA_PX:
            continue
        # places that the piece may come from, of the same outline and whole inside the picture
        dy = random.integers(-y.min(), height - y.max(), TRIED_PLACES)
        dx = random.integers(-x.min(), width - x.max(), TRIED_PLACES)
        here = out[:, y, x].mean(axis=1)  # (C,)
        there = np.stack([values[:, y + v, x + h].mean(axis=1) for v, h in zip(dy, dx, strict=True)])
        contrast = (np.abs(there - here) / spread).mean(axis=1)  # (places,)
        best = int(contrast.argmax())
        if contrast[best] < LEAST_CONTRAST:
            continue
        piece = np.roll(values, (-dy[best], -dx[best]), axis=(1, 2))
        share = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), EDGE_SIGMA_PX)  # as a lens draws an edge
        out = out + share * (piece - out)
        number[mask] = len(full_px)  # what was moved before is covered here
        full_px.append(len(y))
    seen = [number == k for k in range(len(full_px))]
    return out, [s for s, n in zip(seen, full_px, strict=True) if s.sum() >= MIN_VISIBLE * n]


def examples(scene: Composed) -> quality_examples.Examples:
    """What the recipe may learn of a composed picture: the masks of which the truth is known."""
    judged = quality.Scene("", quality_examples.Picture.of(scene.cube, scene.pool, scene.truth))
    known = np.flatnonzero(scene.judged())
    masks = [scene.pool[k] for k in known]
    return quality_examples.examples_with(judged.features[known], masks, scene.truth, 1.0, 0)


def rows(
    name: str, scenes: Sequence[Composed], predictor: Predictor, who: str, *, beside: bool
) -> list[dict[str, object]]:
    """Lines of the table: what a predictor expects. beside: the masks' own scores and their agreement too."""
    by_quality = f"quality: {who}"
    parts: dict[str, list[np.ndarray]] = {by_quality: []}
    if beside:
        parts |= {"own scores": [], "agreement": []}
    ious = []
    for scene in scenes:
        judged = quality.Scene(name, quality_examples.Picture.of(scene.cube, scene.pool, scene.truth))
        known = scene.judged()
        ious.append(quality_examples.truth_iou(scene.pool, scene.truth)[known])
        parts[by_quality].append(predictor.quality(judged.features)[known])
        if beside:
            parts["own scores"].append(np.array([m.score for m in scene.pool])[known])
            parts["agreement"].append(np.array(agreement(scene.pool, judged.branches))[known])
    lines = []
    true = np.concatenate(ious)
    for ranking, values in parts.items():
        expected = np.concatenate(values)
        best = [i[np.argsort(-v, kind="stable")[:10]] >= quality.RIGHT_IOU for i, v in zip(ious, values, strict=True)]
        lines.append(
            {
                "picture": name,
                "ranked by": ranking,
                "masks": len(true),
                "Spearman": f"{spearmanr(expected, true)[0]:.2f}",
                "right of best 10": f"{np.concatenate(best).mean():.2f}",
                "calibration error": f"{quality.calibration_error(expected, true):.3f}",
            }
        )
    return lines


if __name__ == "__main__":
    main()
