"""What labels and losses bring to pre-training at small scale: three seeds, mean and spread.

python bench/ablation.py sources CONFIG OUT [STEPS]   as in Table 5 of the paper: labels of the rgb branch alone; of
                                                      all branches; of all branches, with distillation
python bench/ablation.py quality CONFIG OUT [STEPS]   labels by votes; by predicted quality, cut; masks drawn by
                                                      quality; losses weighed by it; all of it

CONFIG : configuration of a finished `pseudolabels` run with teacher features; its `pretrain` group is the recipe
OUT    : folder for the variants' labels and runs; what is finished there is kept
"""

import csv
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ledger
import numpy as np

from hvlabel.branches.table import CORE_BRANCHES
from hvlabel.cache.index import Entry, StageIndex, all_indexes
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import PretrainSettings
from hvlabel.config.fusion import FusionSettings
from hvlabel.config.tree import Config, load_config
from hvlabel.layout import Layout
from hvlabel.masks import read_document
from hvlabel.stages.fuse import fuse_files
from hvtrain.pretrain import pretrain
from hvtrain.tasks.evaluate import CameraScores, evaluate

SEEDS = (0, 1, 2)
SHARED = ("cubes", "teacher", "demo", "manifest.tsv")  # linked, not copied


@dataclass(frozen=True)
class Variant:
    """Labels and how they are trained on.

    labels : name of their folder
    fusion : changes of the fusion
    data   : changes of pretrain.data
    loss   : changes of pretrain.loss
    """

    labels: str
    branches: tuple[str, ...] = CORE_BRANCHES
    fusion: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    distill: bool = False

    def settings(self, of: PretrainSettings, run: str, seed: int, steps: int) -> PretrainSettings:
        """The recipe with this variant's changes."""
        return of.model_copy(
            update={
                "run": run,
                "seed": seed,
                "data": of.data.model_copy(update=self.data),
                "loss": of.loss.model_copy(update=self.loss),
                "optimiser": of.optimiser.model_copy(update={"steps": steps}),
            }
        )


SOURCES = {
    "rgb labels": Variant("rgb", ("rgb",)),
    "all labels": Variant("all"),
    "all labels + distillation": Variant("all", distill=True),
}
UNCUT = {"ranking": "quality", "min_quality": 0.0}
CUT = {"ranking": "quality"}
DRAWN, WEIGHED = {"draw_temperature": 0.5}, {"by_quality": True}
QUALITY = {
    "votes": Variant("votes", fusion={"ranking": "votes"}),
    "cut": Variant("cut", fusion=CUT),
    "drawn": Variant("uncut", fusion=UNCUT, data=DRAWN),
    "weighed": Variant("uncut", fusion=UNCUT, loss=WEIGHED),
}


def main() -> None:
    variants = {"sources": SOURCES, "quality": QUALITY}[sys.argv[1]]
    config, out = load_config(sys.argv[2]), Path(sys.argv[3]).resolve()
    steps = int(sys.argv[4]) if len(sys.argv) > 4 else config.pretrain.optimiser.steps
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in SEEDS:
        for name, variant in variants.items():
            layout = labels_of(config, out / variant.labels, variant)
            run = f"{name.replace(', ', '-').replace(' ', '-').replace('+', 'and')}-{seed}"
            settings = variant.settings(config.pretrain, run, seed, steps)
            pretrain(layout, settings, distill=variant.distill)
            scores = evaluate(layout, settings, distill=variant.distill)
            rows.setdefault(name, []).append(figures(scores))
            print(name, seed, {k: round(v, 3) for k, v in rows[name][-1].items()}, flush=True)
    with (out / "ablation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        for name, seeds in rows.items():
            for k, of_seed in enumerate(seeds):
                writer.writerow([name, SEEDS[k], *of_seed.values()])
    for name, seeds in rows.items():
        spreads = {k: np.std([s[k] for s in seeds], ddof=1) for k in seeds[0]}
        quality = "; ".join(f"{k} {mean(seeds, k):.3f} +- {spread:.3f}" for k, spread in spreads.items())
        ledger.append("ablation", f"{name}, {steps} steps, seeds {SEEDS}", 1.0, "", 1.0, quality)


def labels_of(config: Config, root: Path, variant: Variant) -> Layout:
    """A results folder with a variant's labels."""
    source, layout = Layout(Path(config.results).resolve()), Layout(root)
    root.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        if not (root / name).exists():
            (root / name).symlink_to(source.root / name)
    (root / "index").mkdir(exist_ok=True)
    if not (root / "index/teacher").exists():
        (root / "index/teacher").symlink_to(source.root / "index/teacher")
    for index in all_indexes(source, "labels"):
        path = layout.index("labels", index.dataset, index.shard)
        if path.exists():
            continue
        fusion = FusionSettings.model_validate(config.fusion.model_dump() | variant.fusion)
        entries = {}
        for image, entry in index.images.items():
            label = layout.label(index.dataset, image)
            masks = [source.masks(b, index.dataset, image) for b in variant.branches]
            fuse_files(masks, fusion, label, source.cube(index.dataset, image))
            seal = read_document(label)["provenance"]["content_sha256"]
            entries[image] = Entry("ok", entry.path, seal)
        publish_bytes(path, StageIndex("labels", index.dataset, index.shard, entries).to_json())
    return layout


def figures(scores: list[CameraScores]) -> dict[str, float]:
    """Means over cameras, apart for those trained on and those not."""
    means = {}
    for name, seen in (("seen", True), ("unseen", False)):
        group = [s for s in scores if s.seen == seen]
        means[f"{name}: 1-click"] = float(np.mean([s.clicks[0] for s in group]))
        means[f"{name}: probe"] = float(np.mean([s.probes["trained"] for s in group]))
    return means


def mean(rows: list[dict[str, float]], name: str) -> float:
    return float(np.mean([r[name] for r in rows]))


if __name__ == "__main__":
    main()
