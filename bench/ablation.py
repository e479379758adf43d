"""What each source of supervision brings, as in Table 5 of the paper, at small scale: three seeds, mean and spread.

python bench/ablation.py CONFIG OUT [STEPS]

CONFIG : configuration of a finished `pseudolabels` run with teacher features; its `pretrain` group is the recipe
OUT    : folder for the variants' labels and runs; what is finished there is kept
Variants: labels of the rgb branch alone; of all branches; of all branches, with distillation.
"""

import csv
import sys
from pathlib import Path

import ledger
import numpy as np

from hvlabel.branches.table import CORE_BRANCHES
from hvlabel.cache.index import Entry, StageIndex, all_indexes
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import PretrainSettings
from hvlabel.config.tree import Config, load_config
from hvlabel.layout import Layout
from hvlabel.masks import read_document
from hvlabel.stages.fuse import fuse_files
from hvtrain.pretrain import pretrain
from hvtrain.tasks.evaluate import CameraScores, evaluate

SEEDS = (0, 1, 2)
VARIANTS = {
    "rgb labels": (("rgb",), False),
    "all labels": (CORE_BRANCHES, False),
    "all labels + distillation": (CORE_BRANCHES, True),
}
SHARED = ("cubes", "teacher", "demo", "manifest.tsv")  # linked, not copied


def main() -> None:
    config, out = load_config(sys.argv[1]), Path(sys.argv[2]).resolve()
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else config.pretrain.optimiser.steps
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in SEEDS:
        for name, (branches, distill) in VARIANTS.items():
            layout = labels_of(config, out / "-".join(branches), branches)
            settings = variant(config.pretrain, f"{'distilled' if distill else 'plain'}-{seed}", seed, steps)
            pretrain(layout, settings, distill=distill)
            scores = evaluate(layout, settings, distill=distill)
            rows.setdefault(name, []).append(figures(scores))
            print(name, seed, {k: round(v, 3) for k, v in rows[name][-1].items()}, flush=True)
    with (out / "ablation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        for name, seeds in rows.items():
            for k, found in enumerate(seeds):
                writer.writerow([name, SEEDS[k], *found.values()])
    for name, seeds in rows.items():
        told = "; ".join(f"{k} {mean(seeds, k):.3f} +- {np.std([s[k] for s in seeds], ddof=1):.3f}" for k in seeds[0])
        ledger.append("ablation", f"{name}, {steps} steps, seeds {SEEDS}", 1.0, "", 1.0, told)


def labels_of(config: Config, root: Path, branches: tuple[str, ...]) -> Layout:
    """A results folder whose labels are fused from some branches alone."""
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
        entries = {}
        for image, entry in index.images.items():
            label = layout.label(index.dataset, image)
            fuse_files([source.masks(b, index.dataset, image) for b in branches], config.fusion, label)
            seal = read_document(label)["provenance"]["content_sha256"]
            entries[image] = Entry("ok", entry.path, seal)
        publish_bytes(path, StageIndex("labels", index.dataset, index.shard, entries).to_json())
    return layout


def variant(settings: PretrainSettings, run: str, seed: int, steps: int) -> PretrainSettings:
    return settings.model_copy(
        update={"run": run, "seed": seed, "optimiser": settings.optimiser.model_copy(update={"steps": steps})}
    )


def figures(scores: list[CameraScores]) -> dict[str, float]:
    """Means over cameras, apart for those trained on and those not."""
    found = {}
    for name, seen in (("seen", True), ("unseen", False)):
        group = [s for s in scores if s.seen == seen]
        found[f"{name}: 1-click"] = float(np.mean([s.clicks[0] for s in group]))
        found[f"{name}: probe"] = float(np.mean([s.probes["trained"] for s in group]))
    return found


def mean(rows: list[dict[str, float]], name: str) -> float:
    return float(np.mean([r[name] for r in rows]))


if __name__ == "__main__":
    main()
