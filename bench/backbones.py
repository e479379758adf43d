"""Backbones and objectives beside one another, for as many steps and for as much time.

python bench/backbones.py CONFIG OUT [--steps 150] [--cpu-s 0] [--seeds 0] [--only NAME ...]

CONFIG  : configuration of a finished `pseudolabels` run with teacher features; its `pretrain` group is the recipe
OUT     : folder for the runs; what is finished there is kept
--cpu-s : if given, every run takes so many seconds of processor time too, by the pace of its run of --steps; where that
          took so long within a fifth it counts as both

Written: OUT/backbones.csv, a row per run, and rows of ledger.csv. A masked autoencoder asks for no masks, so that of
its run the probe counts and the clicks do not.
"""

import argparse
import csv
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import ablation
import ledger

from hvlabel.config import PretrainSettings
from hvlabel.config.tree import load_config
from hvlabel.layout import Layout
from hvtrain.pretrain import pretrain
from hvtrain.tasks.evaluate import evaluate

LABELS = ablation.Variant("all")
FEW_IMAGES = (1, 5, 20)  # that a probe is fitted on


@dataclass(frozen=True)
class Trained:
    """A backbone and what it learns from. student, optimiser, masked: changes of these groups of pretrain."""

    objective: str
    student: dict[str, Any] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    masked: dict[str, Any] = field(default_factory=dict)

    def settings(self, of: PretrainSettings, run: str, seed: int, steps: int) -> PretrainSettings:
        """The recipe with these changes."""
        tree = of.model_dump()
        tree |= {"run": run, "seed": seed, "objective": self.objective}
        tree["student"] |= self.student
        tree["optimiser"] |= {"steps": steps, **self.optimiser}
        tree["masked"] |= self.masked
        # the throw-away heads of the recipe are for masks
        if "masks" not in self.objective:
            tree["loss"] |= {"dense": 0.0, "shortcut": 0.0, "balanced": 0.0}
        return PretrainSettings.model_validate(tree)


SIGMA = {"backbone": "hypersigma"}
AWARE = {"backbone": "specaware"}
AWARE_RATE = {"lr": 5e-4}  # of masks; at the recipe's rate its tokens fade within a hundred steps
TRAINED = {
    "hyperfree, masks+distil": Trained("masks+distil"),
    "specaware, masks+distil": Trained("masks+distil", AWARE, AWARE_RATE),
    "hypersigma, masks+distil": Trained("masks+distil", SIGMA),
    "hypersl, masks+distil": Trained("masks+distil", {"backbone": "hypersl"}),
    "specaware, hyper_mae": Trained("hyper_mae", AWARE),
    "hypersigma, spatial_mae": Trained("spatial_mae", SIGMA),
    # at the published ratio none of 16 bands would be left to see
    "hypersl, spectral_mae": Trained("spectral_mae", {"backbone": "hypersl"}, masked={"mask_ratio": 0.9}),
    "specaware of metadata, masks+distil": Trained(
        "masks+distil", AWARE | {"specaware": {"condition": "metadata"}}, AWARE_RATE
    ),
    "specaware of content, masks+distil": Trained(
        "masks+distil", AWARE | {"specaware": {"condition": "content"}}, AWARE_RATE
    ),
    "hypersigma with ssa, masks+distil": Trained("masks+distil", SIGMA | {"hypersigma": {"attention": "ssa"}}),
    "hypersigma with sem, masks+distil": Trained("masks+distil", SIGMA | {"hypersigma": {"spectral": True}}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--cpu-s", type=float, default=0.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=list(TRAINED))
    given = parser.parse_args()
    config = load_config(given.config)
    layout = ablation.labels_of(config, given.out.resolve(), LABELS)
    known = Rows(given.out / "backbones.csv")
    for seed in given.seeds:
        for name in given.only:
            row = known.of(name, seed, given.steps) or measured(layout, config.pretrain, name, seed, given.steps)
            known.keep(row)
            if given.cpu_s and abs(row["cpu_s"] / given.cpu_s - 1) > 0.2:
                steps = max(1, round(given.steps * given.cpu_s / row["cpu_s"]))
                known.keep(known.of(name, seed, steps) or measured(layout, config.pretrain, name, seed, steps))


def measured(layout: Layout, recipe: PretrainSettings, name: str, seed: int, steps: int) -> dict[str, Any]:
    """Figures of one run."""
    trained = TRAINED[name]
    run = "-".join(name.replace(",", "").replace("+", " ").split()) + f"-{steps}-{seed}"
    settings = trained.settings(recipe, run, seed, steps)
    distill = "distil" in trained.objective
    start_s = time.process_time()
    pretrain(layout, settings, distill=distill)
    cpu_s = time.process_time() - start_s
    row: dict[str, Any] = {"name": name, "seed": seed, "steps": steps, "cpu_s": round(cpu_s, 1)}
    for n_images in FEW_IMAGES:
        changed = settings.evaluation.model_copy(update={"probe_images": n_images})
        scores = evaluate(layout, settings.model_copy(update={"evaluation": changed}), distill=distill)
        for seen, group in (("seen", True), ("unseen", False)):
            of_group = [s for s in scores if s.seen == group]
            row[f"{seen}: 1-click"] = mean([s.clicks[0] for s in of_group])
            for network in ("trained", "untrained"):
                row[f"{seen}: probe on {n_images}, {network}"] = mean([s.probes[network] for s in of_group])
    quality = "; ".join(f"{key} {value:.3f}" for key, value in row.items() if ":" in key)
    ledger.append("backbones", f"{name}, {steps} steps, seed {seed}", cpu_s, "-", cpu_s, quality)
    return row


class Rows:
    """The table of what was measured, on disk."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, []
        if path.is_file():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    figures = {key: float(value) for key, value in row.items() if key != "name"}
                    self.rows.append({"name": row["name"], **figures})

    def of(self, name: str, seed: int, steps: int) -> dict[str, Any] | None:
        """The row of a run, if it was measured."""
        wanted = (name, seed, steps)
        return next((row for row in self.rows if (row["name"], row["seed"], row["steps"]) == wanted), None)

    def keep(self, row: dict[str, Any]) -> None:
        """Writes it, if it is new."""
        if row in self.rows:
            return
        self.rows.append(row)
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows(self.rows)


if __name__ == "__main__":
    main()
