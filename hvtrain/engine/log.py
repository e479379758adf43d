"""What a run shows while it goes on: metrics.csv, TensorBoard, curves and a line or bar of progress."""

from __future__ import annotations

import csv
import io
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence

from tensorboardX import SummaryWriter
from tqdm import tqdm

from hvlabel.cache.publish import publish_bytes
from hvtrain.engine.curves import draw_curves
from hvtrain.engine.run_folder import RunFiles, read_metrics, say

MEASURED = ("grad_norm", "lr", "samples_per_s", "waiting_share")  # in every run, after the objective's scalars


class Log:
    """The log of a run that goes on from a step; only the first process writes.

    names   : scalars that a step may give
    n_steps : of the whole run
    active  : whether this process writes
    """

    def __init__(self, files: RunFiles, names: Sequence[str], first_step: int, n_steps: int, *, active: bool) -> None:
        self._files, self._active, self._n_steps = files, active, n_steps
        self._columns = ("step", "camera", *names, *MEASURED)
        self._start_row()
        self._source = ""
        if not active:
            return
        # an interrupted run may have gone on beyond its checkpoint; rows may be of a version with other columns
        rows = read_metrics(files.metrics)
        kept = [row for row in rows if int(row["step"]) <= first_step]
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        publish_bytes(files.metrics, text.getvalue().encode())
        folder = files.folder / "tensorboard"
        # purged: what the run had shown beyond its checkpoint comes again
        self._board = SummaryWriter(str(folder), purge_step=first_step)
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=n_steps, initial=first_step, unit="step", disable=not is_terminal)
        self._shown_step = first_step

    def _start_row(self) -> None:
        """Begin to collect what one row is the mean of."""
        self._values: dict[str, list[float]] = defaultdict(list)
        self._n_steps_in_row = self._n_samples = 0
        self._waited_s = self._took_s = 0.0

    def add(self, values: Mapping[str, float], source: str, n_samples: int, waited_s: float, took_s: float) -> None:
        """The scalars of one step, what it was made of, and how long it waited for that and took in all."""
        for name, value in values.items():
            self._values[name].append(value)
        self._source = source
        self._n_steps_in_row += 1
        self._n_samples += n_samples
        self._waited_s += waited_s
        self._took_s += took_s

    def write(self, step: int) -> None:
        """Means since the last row."""
        if not self._active:
            return
        means = {}
        for name, values in self._values.items():
            means[name] = sum(values) / len(values)  # over the steps that gave it: not every step does
        means["samples_per_s"] = self._n_samples / self._took_s
        means["waiting_share"] = self._waited_s / self._took_s
        row: dict[str, object] = {"step": step, "camera": self._source}
        for name, value in means.items():
            self._board.add_scalar(name, value, step)
            row[name] = f"{value:.6g}"
        # opened for each row: a killed run leaves whole rows
        with self._files.metrics.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writerow(row)
        self._show(step, means)
        self._start_row()

    def _show(self, step: int, means: Mapping[str, float]) -> None:
        """A bar on a terminal, a line elsewhere."""
        progress = {
            "loss": f"{means['loss']:.3f}",
            "samples/s": f"{means['samples_per_s']:.1f}",
            "waiting": f"{means['waiting_share']:.1%}",
        }
        self._bar.set_postfix(progress)
        self._bar.update(step - self._shown_step)
        self._shown_step = step
        if self._bar.disable:
            step_s = self._took_s / self._n_steps_in_row
            left_min = (self._n_steps - step) * step_s / 60
            line = ", ".join(f"{name} {value}" for name, value in progress.items())
            say(f"step {step} of {self._n_steps}: {line}, {left_min:.1f} min left")

    def draw(self) -> None:
        """Draw the curves as they are now."""
        if self._active:
            draw_curves(self._files.metrics, self._files.curves)

    def close(self) -> None:
        """Write what is held back."""
        if self._active:
            self._board.close()
            self._bar.close()
