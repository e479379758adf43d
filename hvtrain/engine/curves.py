"""The curves of a run as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from hvlabel.cache.publish import publish_bytes

NO_CURVE = frozenset({"step", "camera", "lr", "samples_per_s"})  # columns that tell nothing about learning
ROWS = 2  # of panels


def draw_curves(metrics: Path, out: Path) -> None:
    """PNG with a panel per quantity that the run has."""
    import matplotlib as mpl

    mpl.use("Agg")  # training runs where there is no screen
    from matplotlib import pyplot as plt

    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = _with_curve(rows)
    columns = max(1, -(-len(names) // ROWS))  # rounded up; a run without a row is an empty picture
    size_in = (4 * columns, 3 * ROWS)
    figure, axes = plt.subplots(ROWS, columns, figsize=size_in, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        known = [row for row in rows if row[name]]  # boxes and clicks alternate: each has its own columns
        steps = [int(row["step"]) for row in known]
        values = [float(row[name]) for row in known]
        axis.plot(steps, values, linewidth=1)
        axis.set_title(name)
        axis.set_xlabel("step")
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=90)
    plt.close(figure)  # pyplot would keep it
    publish_bytes(out, content.getvalue())


def _with_curve(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Columns that have a value in some row."""
    if not rows:
        return []
    names = []
    for name in rows[0]:
        has_value = any(row[name] for row in rows)
        if has_value and name not in NO_CURVE:
            names.append(name)
    return names
