"""The quality predictor where objects run out of the picture, and what it gains from learning on pieces of its scenes.

python bench/quality_crops.py RESULTS TRAINED_ON [TRAINED_ON ...]

RESULTS    : a run on generated scenes that the predictor was not trained on
TRAINED_ON : the runs that it was trained on (hvtrain.recipes.quality)

In generated scenes only the ground reaches the border; in real ones objects do. A piece of a scene has such objects:
its masks and its truth are those of the scene, cut off. Rows: rank correlation and calibration on whole scenes and on
pieces, and what is expected of right masks at the border. The last rows are of the labels, cut as by default.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import quality
from scipy.stats import spearmanr

from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import open_cube
from hvlabel.layout import Layout
from hvlabel.masks import Mask, MaskSet, decode, encode
from hvlabel.quality import NAMES, Predictor, load_predictor, mask_features
from hvlabel.quality.view import View, make_view
from hvtrain.recipes import quality as recipe

SEED = 7
PIECES = 2  # of each scene
SHARE = (0.45, 0.75)  # of its sides


def cut(masks: Sequence[Mask], rows: slice, columns: slice) -> list[Mask]:
    """What is left of some masks in a piece of their image."""
    left = []
    for mask in masks:
        inside = decode(mask.rle)[rows, columns]
        if np.count_nonzero(inside) >= recipe.MIN_AREA_PX:
            left.append(replace(mask, rle=encode(np.ascontiguousarray(inside))))
    return left


def whole(folder: Path) -> Iterator[tuple[View, list[Mask], MaskSet]]:
    """What is to be judged of every scene of a run."""
    for dataset, image_id, pool, truth in recipe.labelled_scenes(folder):
        cube = open_cube(Layout(folder).cube(dataset, image_id))
        yield make_view(cube.live_values(), cube.rgb, cube.valid), pool, truth


def pieces(folder: Path, random: np.random.Generator) -> Iterator[tuple[View, list[Mask], MaskSet]]:
    """The same of pieces of every scene, PIECES each."""
    for dataset, image_id, pool, truth in recipe.labelled_scenes(folder):
        cube = open_cube(Layout(folder).cube(dataset, image_id))
        values = cube.live_values()  # (C, H, W)
        for _ in range(PIECES):
            share = random.uniform(*SHARE)
            height, width = int(cube.height_px * share), int(cube.width_px * share)
            top = int(random.integers(0, cube.height_px - height + 1))
            left = int(random.integers(0, cube.width_px - width + 1))
            rows, columns = slice(top, top + height), slice(left, left + width)
            valid = None if cube.valid is None else np.ascontiguousarray(cube.valid[rows, columns])
            seen = np.ascontiguousarray(values[:, rows, columns])
            view = make_view(seen, np.ascontiguousarray(cube.rgb[rows, columns]), valid)
            of_piece = MaskSet(height, width, tuple(cut(truth.masks, rows, columns)))
            yield view, cut(pool, rows, columns), of_piece


def examples(scenes: Iterator[tuple[View, list[Mask], MaskSet]], each: int = 1) -> recipe.Examples:
    """Masks with their features and what is true of them. each: pictures in a row that are of one scene."""
    parts = []
    for k, (view, pool, truth) in enumerate(scenes):
        parts.append(recipe._examples(mask_features(pool, view), pool, truth, 1.0, k // each))
    return recipe._concatenated(parts)


def row(name: str, predictor: Predictor, judged: recipe.Examples) -> dict[str, object]:
    """One line of the table."""
    expected, true = predictor.quality(judged.features), judged.iou
    at_border = judged.features[:, NAMES.index("border")] > 0
    right = at_border & (true >= quality.RIGHT_IOU)
    return {
        "predictor, judged on": name,
        "masks": len(true),
        "Spearman": f"{spearmanr(expected, true)[0]:.3f}",
        "calibration error": f"{quality.calibration_error(expected, true):.3f}",
        "right masks at the border": int(right.sum()),
        "their IoU expected / true": f"{expected[right].mean():.2f} / {true[right].mean():.2f}",
    }


def main() -> None:
    unseen, trained_on = Path(sys.argv[1]), [Path(p) for p in sys.argv[2:]]
    tests = {
        "whole scenes": examples(whole(unseen)),
        "pieces": examples(pieces(unseen, np.random.default_rng(SEED)), PIECES),
    }
    as_shipped = recipe.collect(trained_on, np.random.default_rng(recipe.SEED))
    random, cut_off = np.random.default_rng(SEED), []
    for folder in trained_on:
        cut_off.append(examples(pieces(folder, random), PIECES))
    # a piece has the number of its scene, so that both are held out or neither
    with_pieces = recipe._concatenated([as_shipped, recipe.joined(cut_off)])
    predictors = {"shipped": load_predictor(), "with pieces": Predictor.of(recipe.fit(with_pieces))}
    quality.show([row(f"{who}, {what}", p, judged) for who, p in predictors.items() for what, judged in tests.items()])
    scenes = quality.scenes_of(unseen)
    by_quality = FusionSettings(ranking="quality")
    quality.show([quality.row(who, scenes, by_quality, p) for who, p in predictors.items()])


if __name__ == "__main__":
    main()
