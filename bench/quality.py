"""Labels by predicted quality against those by agreement and by votes, on scenes with ground truth.

python bench/quality.py RESULTS [CUT ...]            a run that the predictor was not trained on; rows of a table, and
one of the ledger
python bench/quality.py importance RESULTS           how much each feature matters: loss of rank correlation when it is
shuffled
python bench/quality.py without RESULTS [RESULTS..]  the recipe with each data set left out in turn, tested on that one
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import ledger
import numpy as np
from scipy.stats import spearmanr

from hvlabel.config.fusion import FusionSettings
from hvlabel.fusion import fuse
from hvlabel.inspect.scores import calibration_curve, score
from hvlabel.masks import MaskSet, iou_matrix
from hvlabel.quality import NAMES, Predictor, load_predictor, mask_features
from hvlabel.quality.view import make_view
from hvtrain.recipes import quality as recipe
from hvtrain.recipes import quality_examples

RIGHT_IOU = 0.5


class Scene:
    """Masks of the branches of one labelled image, their features, and the truth."""

    def __init__(self, dataset: str, picture: quality_examples.Picture) -> None:
        self.dataset, self.truth = dataset, picture.truth
        names = list(dict.fromkeys(m.branch for m in picture.pool))
        of_branch = [tuple(m for m in picture.pool if m.branch == name) for name in names]
        self.branches = [MaskSet(self.truth.height_px, self.truth.width_px, masks) for masks in of_branch]
        self.pool = [mask for masks in of_branch for mask in masks]
        view = make_view(picture.values, picture.rgb, picture.valid)
        start = time.perf_counter()
        self.features = mask_features(self.pool, view)
        self.seconds = time.perf_counter() - start
        self.ends = np.cumsum([len(b) for b in self.branches])[:-1]

    def label(self, settings: FusionSettings, predictor: Predictor) -> MaskSet:
        """The label by some settings."""
        return fuse(self.branches, settings, np.split(predictor.quality(self.features), self.ends))


def scenes_of(results: Path) -> list[Scene]:
    return [Scene(dataset, picture) for dataset, _, picture in quality_examples.labelled_scenes(results)]


def row(name: str, scenes: Sequence[Scene], settings: FusionSettings, predictor: Predictor) -> dict[str, object]:
    """One line of the table."""
    labels = [s.label(settings, predictor) for s in scenes]
    pairs = [(label, s.truth) for label, s in zip(labels, scenes, strict=True)]
    ious = [iou_matrix(f.rles, t.rles).max(axis=1, initial=0.0) for f, t in pairs]
    scores = [np.array([m.score for m in label.masks]) for label in labels]
    all_iou, all_scores = np.concatenate(ious), np.concatenate(scores)
    best = {n: np.concatenate([i[:n] >= RIGHT_IOU for i in ious]).mean() for n in (10, 20, 50)}
    result = score(pairs)
    return {
        "labels": name,
        "masks/image": f"{result.masks_per_image:.0f}",
        "AR@100": f"{result.ar:.3f}",
        "spectral-only": f"{result.spectral_only:.3f}",
        "Spearman": f"{spearmanr(all_scores, all_iou)[0]:.2f}",
        "right of best 10 / 20 / 50": " / ".join(f"{v:.2f}" for v in best.values()),
        "right of all": f"{result.precision:.2f}",
        "AP": f"{result.ap:.3f}",
        "AP50": f"{result.ap50:.3f}",
        "calibration error": f"{result.calibration_error:.3f}",
    }


def calibration_error(expected: np.ndarray, true: np.ndarray) -> float:
    """Mean distance of what was expected of masks (N,) from what is true, over groups of about the same expectation."""
    bins = calibration_curve(expected, true)
    return sum(b.n_masks * abs(b.score - b.iou) for b in bins) / len(true)


def show(rows: Sequence[dict[str, object]]) -> None:
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for line in rows:
        print("| " + " | ".join(str(v) for v in line.values()) + " |")


def compare(results: Path, cuts: Sequence[float]) -> None:
    """Rankings side by side; then by data set, with the default cut."""
    scenes, predictor = scenes_of(results), load_predictor()
    rows = [row(name, scenes, FusionSettings(ranking=name), predictor) for name in ("votes", "agreement")]
    default = FusionSettings().min_quality
    for nested in (0.7, 0.6, 0.5):
        settings = FusionSettings(ranking="quality", nested_iou=nested)
        rows.append(row(f"quality, nested from {nested:g}", scenes, settings, predictor))
    for cut in cuts or (0.0, 0.2, default, 0.4, 0.5):
        rows.append(row(f"quality, cut {cut:g}", scenes, FusionSettings(ranking="quality", min_quality=cut), predictor))
    by_quality = FusionSettings(ranking="quality")
    for dataset in dict.fromkeys(s.dataset for s in scenes):
        rows.append(row(dataset, [s for s in scenes if s.dataset == dataset], by_quality, predictor))
    show(rows)
    n_masks = float(np.mean([len(s.features) for s in scenes]))
    whole = row("", scenes, by_quality, predictor)
    quality = ", ".join(f"{k} {v}" for k, v in whole.items() if k != "labels")
    seconds = float(np.median([s.seconds for s in scenes]))
    ledger.append("quality", f"features of {n_masks:.0f} masks, {results.name}", seconds, "-", seconds, quality)


def importance(results: Path) -> None:
    """Spearman over the pool with each feature shuffled."""
    scenes, predictor = scenes_of(results), load_predictor()
    features = np.concatenate([s.features for s in scenes])
    iou = np.concatenate([quality_examples.truth_iou(s.pool, s.truth) for s in scenes])
    whole = spearmanr(predictor.quality(features), iou)[0]
    random, lost = np.random.default_rng(0), {}
    for k, name in enumerate(NAMES):
        shuffled = features.copy()
        shuffled[:, k] = random.permutation(shuffled[:, k])
        lost[name] = whole - spearmanr(predictor.quality(shuffled), iou)[0]
    print(f"all {whole:.3f}")
    for name, drop in sorted(lost.items(), key=lambda item: -item[1]):
        print(f"{name} {drop:.3f}")


def without(folders: Sequence[Path]) -> None:
    """Leave one data set out of the training, and test on it."""
    random = np.random.default_rng(recipe.SEED)
    by_dataset: dict[str, list[tuple[Path, str, str]]] = {}
    for folder in folders:
        for dataset, image_id, _ in quality_examples.labelled_scenes(folder):
            by_dataset.setdefault(f"{folder.name}/{dataset}", []).append((folder, dataset, image_id))
    parts = {name: quality_examples.collect(folders, random, only=set(rows)) for name, rows in by_dataset.items()}
    judged: dict[str, list[Scene]] = {}
    for folder in folders:
        for scene in scenes_of(folder):
            judged.setdefault(f"{folder.name}/{scene.dataset}", []).append(scene)
    lines = []
    for name, scenes in judged.items():
        others = quality_examples.joined([part for other, part in parts.items() if other != name])
        predictor = Predictor.of(recipe.fit(others))
        lines.append(row(f"{name}, never seen", scenes, FusionSettings(ranking="quality"), predictor))
    show(lines)


def main() -> None:
    if sys.argv[1] == "importance":
        importance(Path(sys.argv[2]))
    elif sys.argv[1] == "without":
        without([Path(p) for p in sys.argv[2:]])
    else:
        compare(Path(sys.argv[1]), [float(c) for c in sys.argv[2:]])


if __name__ == "__main__":
    main()
