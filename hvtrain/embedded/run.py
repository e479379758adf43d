"""A training: its checkpoint, its log, its steps."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hvlabel.config import OptimiserSettings
from hvlabel.errors import ResultsError
from hvtrain.embedded.stages import Batch, Batches, Stage
from hvtrain.optimiser import moving_average, parameter_groups
from hvtrain.student import export

LOG_EVERY, SAVE_EVERY = 50, 100  # steps


def begin(threads: int) -> None:
    """What comes before the first weights: they, and sums, depend on it."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # saturated sigmoids would make steps many times slower
    torch.manual_seed(0)


class Run:
    """What a training has reached, in memory and in its folder.

    objective : its `network` is what is trained and averaged; called with a batch it gives the terms of the loss
    recipe    : what is trained; a folder's checkpoint of another recipe is refused (ResultsError)
    prompted  : starts of the parameters' names that have half the rate
    """

    def __init__(self, objective: nn.Module, out: Path, recipe: str, prompted: tuple[str, ...] = ()) -> None:
        settings = OptimiserSettings(lr=1.0, lr_fan_in=96, decoder_lr=0.5, weight_decay=0.02, ema=0.998)
        out.mkdir(parents=True, exist_ok=True)
        self.objective, self.out, self.recipe = objective, out, recipe
        self.network: nn.Module = objective.network  # type: ignore[assignment]
        self.average = moving_average(self.network, settings.ema)
        self.optimiser = torch.optim.AdamW(parameter_groups(objective, settings, prompted), betas=(0.9, 0.98))
        self.step, self.seconds = 0, 0.0

    def train(self, make: Callable[[Stage, int], Batch], stages: tuple[Stage, ...], workers: int, name: str) -> None:
        """All stages, from the checkpoint if there is one; then the averaged weights in half precision as OUT/name.

        The log tells the stages of each start: longer ones may be asked for than those that a checkpoint came from.
        """
        self.resume()
        self._log({"step": self.step, "recipe": self.recipe, "stages": [asdict(s) for s in stages]})
        first_step = 0
        for stage in stages:
            if self.step < first_step + stage.steps:
                left = range(self.step - first_step, stage.steps)
                self._play(stage, first_step, Batches(make, stage, first_step, left).loader(workers))
            first_step += stage.steps
        average: nn.Module = self.average.module
        half = {k: v.half() if v.is_floating_point() else v for k, v in average.state_dict().items()}
        export(half, self.out / name)

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if it has one; what was logged after it is struck out."""
        path, log = self.out / "checkpoint.pt", self.out / "log.jsonl"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["recipe"] != self.recipe:
            raise ResultsError(
                f"{path}: is a checkpoint of {state['recipe']}, not of {self.recipe}; choose another folder or remove it"
            )
        self.step, self.seconds = state["step"], state["seconds"]
        for name in ("objective", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        if log.exists():
            rows = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            log.write_text("".join(f"{line}\n" for line in rows))

    def save(self) -> None:
        """The checkpoint, at once or not at all."""
        state = {name: getattr(self, name).state_dict() for name in ("objective", "average", "optimiser")}
        path = self.out / "checkpoint.pt"
        facts = {"recipe": self.recipe, "step": self.step, "seconds": self.seconds}
        torch.save({**facts, **state}, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def _play(self, stage: Stage, first_step: int, loader: object) -> None:
        sums: dict[str, list[float]] = defaultdict(list)
        clock = time.monotonic()
        for batch in loader:  # type: ignore[attr-defined]
            for group in self.optimiser.param_groups:
                group["lr"] = group["peak_lr"] * stage.lr * stage.rate(self.step - first_step)
            for name, value in self._learn(batch, stage).items():
                sums[name].append(float(value.detach()))
            if self.step % LOG_EVERY == 0:
                self.seconds, clock = self.seconds + time.monotonic() - clock, time.monotonic()
                means = {name: round(float(np.mean(values)), 4) for name, values in sums.items()}
                self._log({"step": self.step, "minutes": round(self.seconds / 60, 2), **means})
                sums.clear()
            if self.step % SAVE_EVERY == 0:
                self.save()
        self.save()

    def _log(self, row: dict[str, object]) -> None:
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _learn(self, batch: Batch, stage: Stage) -> dict[str, Tensor]:
        """One step of the optimiser."""
        # small heads are slow in the CPU's flash kernel
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            terms: dict[str, Tensor] = self.objective(batch, stage.loss)
        terms["loss"].backward()
        terms["grad_norm"] = nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update_parameters(self.network)
        self.step += 1
        return terms
