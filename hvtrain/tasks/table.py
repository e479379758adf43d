"""Scores as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hvtrain.tasks.evaluate import PROBES, CameraScores


def table(scores: Sequence[CameraScores], clicks: tuple[int, ...]) -> list[list[str]]:
    """Header and rows as text, one row per camera; probes that no camera has are left out."""
    probes = [name for name in PROBES if not np.isnan([s.probes[name] for s in scores]).all()]
    header = ["camera", "in training", "masks from", "images", "masks"]
    header += [f"{n}-click mIoU" for n in clicks] + [f"untrained {clicks[0]}-click", "prompt ignored"]
    header += [f"probe mIoU: {name}" for name in probes]
    rows = [header]
    for s in scores:
        seen = "yes" if s.seen else "no"
        facts = [s.name, seen, "truth" if s.truth else "labels", str(s.n_images), str(s.n_masks)]
        figures = [*s.clicks, s.untrained[0], s.constant, *(s.probes[name] for name in probes)]
        rows.append(facts + [f"{value:.3f}" for value in figures])
    return rows


def markdown(rows: list[list[str]]) -> str:
    """The table turned on its side, so that it fits a screen: one column per camera."""
    turned = [list(column) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(row) + " |" for row in turned]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(rows) - 1), *lines[1:]]) + "\n"
