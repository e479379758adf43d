"""What the quality predictor loses, and what it gains on real images, when groups of its features are left out.

python bench/quality_features.py UNSEEN OUTLINED[,OUTLINED...] TRAINED_ON [TRAINED_ON ...]

UNSEEN     : a run on generated scenes that the predictor was not trained on
OUTLINED   : runs on images that were outlined by hand (bench/quality_hand.py)
TRAINED_ON : the runs of the recipe (hvtrain.recipes.quality)

For each group the recipe is fitted with several seeds. Rows: means over them, of labels cut as by default.
"""

import copy
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import quality
import quality_hand
from scipy.stats import spearmanr

from hvlabel.config.fusion import FusionSettings
from hvlabel.masks import iou_matrix
from hvlabel.quality import NAMES, Predictor
from hvtrain.recipes import quality as recipe
from hvtrain.recipes import quality_examples

SEED = 7  # of the pieces
SEEDS = (20, 120, 220)  # a fit takes five in a row, one for each network
SPECTRAL = tuple(name for name in NAMES if name.startswith("spectral_"))
PICTURE = tuple(name for name in NAMES if name.startswith("picture_"))
SPREADS = tuple(name for name in NAMES if name.endswith("spread"))
EDGES = tuple(name for name in NAMES if name.endswith("edge"))
NESTING = ("parents", "parent_area", "children", "child_area", "children_cover", "same_branch")
COUNTS = ("masks", "found")
GROUPS: dict[str, tuple[str, ...]] = {
    "none": (),
    "spreads": SPREADS,
    "spreads and edges": SPREADS + EDGES,
    "spectral": SPECTRAL,
    "spectral, and the picture's spreads": tuple({*SPECTRAL, *SPREADS}),
    "picture": PICTURE,
    "spectral and picture": SPECTRAL + PICTURE,
    "border": ("border",),
    "nesting": NESTING,
}


def without(features: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """Features (N, F) with some columns the same for all masks."""
    seen = features.copy()
    seen[:, columns] = 0
    return seen


def blinded(scenes: Sequence[quality.Scene], columns: Sequence[int]) -> list[quality.Scene]:
    """The scenes as a predictor sees them that lacks some columns of the features."""
    copies = [copy.copy(scene) for scene in scenes]
    for scene in copies:
        scene.features = without(scene.features, columns)
    return copies


def figures(scenes: Sequence[quality.Scene], predictor: Predictor) -> dict[str, float]:
    """What is true of the labels of some images: means over images, and of all their masks."""
    ranks, best, masks, found, right = [], [], 0, 0, 0
    for scene in scenes:
        label = scene.label(FusionSettings(ranking="quality"), predictor)
        iou = iou_matrix(label.rles, scene.truth.rles)  # (masks, objects)
        of_mask = iou.max(axis=1, initial=0.0)
        is_right = of_mask >= quality.RIGHT_IOU
        masks += len(label)
        right += int(is_right.sum())
        found += int((iou.max(axis=0, initial=0.0) >= quality.RIGHT_IOU).sum())
        best.append(is_right[:10].mean())
        expected, true = predictor.quality(scene.features), quality_examples.truth_iou(scene.pool, scene.truth)
        ranks.append(spearmanr(expected, true)[0])
    return {
        "Spearman": float(np.nanmean(ranks)),
        "right of best 10": float(np.mean(best)),
        "right of all": right / max(1, masks),
        "masks": masks,
        "found": found,
    }


def main() -> None:
    unseen, outlined, *trained_on = sys.argv[1:]
    random, generated, pieces = np.random.default_rng(SEED), [], []
    for dataset, _, picture in quality_examples.labelled_scenes(Path(unseen)):
        generated.append(quality.Scene(dataset, picture))
        pieces.append(quality.Scene(dataset, quality_examples.piece_of(picture, random)))
    by_hand = [image for folder in outlined.split(",") for image in quality_hand.images_of(Path(folder))]
    tests = {"scenes": generated, "pieces": pieces, "by hand": by_hand}
    examples = quality_examples.collect([Path(folder) for folder in trained_on], np.random.default_rng(recipe.SEED))
    lines: list[dict[str, object]] = []
    for group, names in GROUPS.items():
        columns = [NAMES.index(name) for name in names]
        seen = replace(examples, features=without(examples.features, columns))
        predictors = [Predictor.of(recipe.fit(seen, seed)) for seed in SEEDS]
        for test, scenes in tests.items():
            as_seen = blinded(scenes, columns)
            of_seed = [figures(as_seen, predictor) for predictor in predictors]
            means = {name: np.mean([f[name] for f in of_seed]) for name in of_seed[0]}
            shown = {name: f"{value:.0f}" if name in COUNTS else f"{value:.3f}" for name, value in means.items()}
            lines.append({"left out": group, "on": test, **shown})
    quality.show(lines)


if __name__ == "__main__":
    main()
