"""Scores as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hvtrain.tasks.evaluate import PROBES, CameraScores


def table(scores: Sequence[CameraScores], clicks: tuple[int, ...]) -> list[list[str]]:
    """Header and rows as text, one row per camera; probes that no camera has are left out."""
    probes = [name for name in PROBES if _measured(scores, name)]
    header = ["camera", "in training", "masks from", "images", "masks"]
    header += [f"{n}-click mIoU" for n in clicks]
    header += [f"untrained {clicks[0]}-click", "prompt ignored"]
    header += [f"probe mIoU: {name}" for name in probes]
    rows = [header]
    for camera in scores:
        in_training = "yes" if camera.seen else "no"
        masks_from = "truth" if camera.truth else "labels"
        counts = [str(camera.n_images), str(camera.n_masks)]
        facts = [camera.name, in_training, masks_from, *counts]
        figures = [*camera.clicks, camera.untrained[0], camera.constant]
        figures += [camera.probes[name] for name in probes]
        rows.append(facts + [f"{value:.3f}" for value in figures])
    return rows


def _measured(scores: Sequence[CameraScores], probe: str) -> bool:
    """Whether some camera has a score of a probe."""
    values = [camera.probes[probe] for camera in scores]
    return not np.isnan(values).all()


def markdown(rows: list[list[str]]) -> str:
    """The table turned on its side, so that it fits a screen: one column per camera."""
    return lined(list(zip(*rows, strict=True)))


def lined(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, first row as header, numbers to the right."""
    header, *lines = ["| " + " | ".join(row) + " |" for row in rows]
    alignment = "|---|" + "---:|" * (len(rows[0]) - 1)
    return "\n".join([header, alignment, *lines]) + "\n"
