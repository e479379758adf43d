"""The curves of a run as a picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from hvlabel.cache.publish import publish_bytes

NO_CURVE = frozenset({"step", "camera", "lr", "samples_per_s"})
ROWS = 2  # of panels


def draw_curves(metrics: Path, out: Path) -> None:
    """PNG with a panel per quantity that the run has."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name not in NO_CURVE and any(row[name] for row in rows)]
    columns = max(1, -(-len(names) // ROWS))
    figure, axes = plt.subplots(ROWS, columns, figsize=(4 * columns, 3 * ROWS), squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        known = [row for row in rows if row[name]]
        axis.plot([int(row["step"]) for row in known], [float(row[name]) for row in known], linewidth=1)
        axis.set_title(name)
        axis.set_xlabel("step")
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=90)
    plt.close(figure)
    publish_bytes(out, content.getvalue())
