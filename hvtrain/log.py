"""What a run tells while it goes on: metrics.csv, TensorBoard, curves and a line or bar of progress."""

from __future__ import annotations

import csv
import io
import sys
from collections import defaultdict
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

from hvlabel.cache.publish import publish_bytes
from hvlabel.config import OptimiserSettings
from hvtrain.plots import draw_curves
from hvtrain.run import RunFiles, read_metrics

METRICS = ("step", "camera", "loss", "mask", "iou", "miou", "distill", "dense", "shortcut", "grad_norm", "lr", "samples_per_s", "waiting_share")  # fmt: skip


class Log:
    """metrics.csv, TensorBoard and a progress bar; only the first process writes."""

    def __init__(self, files: RunFiles, step: int, settings: OptimiserSettings, active: bool) -> None:
        self._files, self._batch, self._active = files, settings.batch_images, active
        self._sums: dict[str, list[float]] = defaultdict(list)
        self._waited = self._seconds = 0.0
        self._camera = ""
        self._total = settings.steps
        if not active:
            return
        # a run may have gone on beyond its checkpoint
        kept = [r for r in read_metrics(files.metrics) if int(r["step"]) <= step]
        text = io.StringIO()
        writer = csv.DictWriter(text, METRICS)
        writer.writeheader()
        writer.writerows(kept)
        publish_bytes(files.metrics, text.getvalue().encode())
        self._board = SummaryWriter(str(files.folder / "tensorboard"), purge_step=step)
        self._bar = tqdm(total=settings.steps, initial=step, unit="step", disable=not sys.stderr.isatty())
        self._done = step

    def add(self, row: dict[str, Any], waited: float, seconds: float) -> None:
        """The values of one step, and how long it took."""
        self._camera = row.pop("camera")
        for name, value in row.items():
            self._sums[name].append(value)
        self._waited += waited
        self._seconds += seconds

    def write(self, step: int) -> None:
        """Means since the last row."""
        if not self._active:
            return
        n = len(self._sums["loss"])
        row: dict[str, Any] = {k: sum(v) / len(v) for k, v in self._sums.items()}
        row["samples_per_s"] = n * self._batch / self._seconds
        row["waiting_share"] = self._waited / self._seconds
        for name, value in row.items():
            self._board.add_scalar(name, value, step)
        with self._files.metrics.open("a", newline="") as file:
            rounded = {k: f"{v:.6g}" for k, v in row.items()}
            csv.DictWriter(file, METRICS, restval="").writerow({"step": step, "camera": self._camera, **rounded})
        told = {
            "loss": f"{row['loss']:.3f}",
            "samples/s": f"{row['samples_per_s']:.1f}",
            "waiting": f"{row['waiting_share']:.1%}",
        }
        self._bar.set_postfix(told)
        self._bar.update(step - self._done)
        if self._bar.disable:
            left = (self._total - step) * self._seconds / n
            line = ", ".join(f"{k} {v}" for k, v in told.items())
            print(f"step {step} of {self._total}: {line}, {left / 60:.1f} min left", file=sys.stderr, flush=True)  # noqa: T201
        self._done = step
        self._sums.clear()
        self._waited = self._seconds = 0.0

    def draw(self) -> None:
        """Draw the curves as they are now."""
        if self._active:
            draw_curves(self._files.metrics, self._files.curves)

    def close(self) -> None:
        """Flush."""
        if self._active:
            self._board.close()
            self._bar.close()
