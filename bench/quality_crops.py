"""The quality predictor where objects run out of the picture, and what it owes to the pieces that it has learned from.

python bench/quality_crops.py RESULTS TRAINED_ON [TRAINED_ON ...]

RESULTS    : a run on generated scenes that the predictor was not trained on (bench/quality_test.yaml)
TRAINED_ON : the runs that it was trained on; it is fitted once more on whole scenes alone

Rows: rank correlation and calibration on whole scenes and on pieces of them, and what is expected of right masks at the
border. The last rows are of the labels, cut as by default.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import quality
from scipy.stats import spearmanr

from hvlabel.config.fusion import FusionSettings
from hvlabel.quality import NAMES, Predictor, load_predictor
from hvtrain.recipes import quality as recipe
from hvtrain.recipes import quality_examples

SEED = 7
PIECES = 2  # of each scene


def row(name: str, scenes: Sequence[quality.Scene], predictor: Predictor) -> dict[str, object]:
    """One line of the table."""
    features = np.concatenate([scene.features for scene in scenes])
    true = np.concatenate([quality_examples.truth_iou(scene.pool, scene.truth) for scene in scenes])
    expected = predictor.quality(features)
    at_border = features[:, NAMES.index("border")] > 0
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
    random = np.random.default_rng(SEED)
    whole, pieces = [], []
    for dataset, _, picture in quality_examples.labelled_scenes(unseen):
        whole.append(quality.Scene(dataset, picture))
        pieces += [quality.Scene(dataset, quality_examples.piece_of(picture, random)) for _ in range(PIECES)]
    with patch.object(quality_examples, "PIECES", 0):
        of_whole = quality_examples.collect(trained_on, np.random.default_rng(recipe.SEED))
    predictors = {"shipped": load_predictor(), "of whole scenes alone": Predictor.of(recipe.fit(of_whole))}
    tests = {"whole scenes": whole, "pieces": pieces}
    pairs = [(f"{who}, {what}", scenes, p) for who, p in predictors.items() for what, scenes in tests.items()]
    quality.show([row(*pair) for pair in pairs])
    by_quality = FusionSettings(ranking="quality")
    quality.show([quality.row(name, scenes, by_quality, p) for name, scenes, p in pairs])


if __name__ == "__main__":
    main()
