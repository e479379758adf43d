"""Curves of the trainings of the embedded networks.

python bench/embedded_curves.py OUT.csv OUT.png TITLE METRICS.csv... [TITLE METRICS.csv...]...

Joins the logs that a training was continued through (a later log's steps replace an earlier log's), writes what they
have in common
with a curve as a table, and draws it: IoU on training scenes, never seen before, means of 50 steps.
"""

import csv
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

CURVES = {
    "best_iou": "best of three, one click",
    "trusted_iou": "the one of the best predicted IoU",
    "corrected_iou": "after a correction",
    "box_iou": "box",
    "spectral_iou": "only the spectrum shows it",
    "second_iou": "carried to the next frame",
    "last_iou": "carried to the last frame",
}


def joined(logs: list[Path]) -> list[dict[str, float]]:
    """Rows by step."""
    rows: dict[int, dict[str, float]] = {}
    for log in logs:
        lines = []
        for line in csv.DictReader(log.open(newline="")):
            lines.append({name: float(value) for name, value in line.items() if value and name != "camera"})
        rows = {step: row for step, row in rows.items() if step < lines[0]["step"]}
        rows |= {int(row["step"]): row for row in lines}
    return list(rows.values())


def main() -> None:
    table, picture, *rest = sys.argv[1:]
    trainings: dict[str, list[Path]] = {}
    title = ""
    for word in rest:
        if word.endswith(".csv"):
            trainings[title].append(Path(word))
        else:
            title = word
            trainings[title] = []
    figure, axes = plt.subplots(1, len(trainings), figsize=(5 * len(trainings), 4), squeeze=False, sharey=True)
    with Path(table).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["training", "step", *CURVES])
        for axis, (title, logs) in zip(axes.flat, trainings.items(), strict=True):
            rows = joined(logs)
            writer.writerows([title, int(row["step"]), *(row.get(name, "") for name in CURVES)] for row in rows)
            for name, label in CURVES.items():
                points = [(row["step"], row[name]) for row in rows if name in row]
                if points:
                    axis.plot(*zip(*points, strict=True), linewidth=1, label=label)
            axis.set(title=title, xlabel="step", ylim=(0, 1))
            axis.legend(fontsize=7)
    axes[0, 0].set_ylabel("IoU")
    figure.tight_layout()
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    main()
