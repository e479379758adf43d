"""The training loop: exact resume, metrics that show where the time goes, and a stop before anything is spoilt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from hvlabel.errors import ResultsError, TrainingError
from hvtrain.data.batch import Batch
from hvtrain.engine.checkpoint import read_checkpoint, write_checkpoint
from hvtrain.engine.log import Log
from hvtrain.engine.optimiser import moving_average
from hvtrain.engine.run_folder import RunFiles, say

MAX_BAD_SHARE = 0.1  # of a run's images that may prove unreadable before it stops
# decay of the second moment: 0.98 follows a changing loss sooner than torch's 0.999
BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Pace:
    """How long a run is and how often it does what.

    steps            : of the whole run
    accumulate       : batches per step and process
    clip_norm        : largest norm of the gradient
    ema              : decay of the averaged weights
    log_every, checkpoint_every, picture_every : steps
    """

    steps: int
    accumulate: int = 1
    clip_norm: float = 1.0
    ema: float = 0.999
    log_every: int = 20
    checkpoint_every: int = 500
    picture_every: int | None = None


class Loop:
    """One process of one run: an objective, its optimiser, averaged weights, and the folder they are kept in.

    objective : a module that gives the scalars of a batch, among them `loss`
    student   : what of it is averaged and handed on
    groups    : of AdamW's parameters, each with its "peak_lr"
    facts     : what a checkpoint says besides; one that says another "key" is refused
    clipped   : parameters in the order in which the gradient's norm is summed; none: that of the groups
    around    : a context for the objective's forward pass
    draw      : draws to a file what the student predicts of a batch
    """

    def __init__(
        self,
        fabric: Fabric,
        objective: nn.Module,
        student: nn.Module,
        groups: Sequence[Mapping[str, Any]],
        files: RunFiles,
        pace: Pace,
        facts: Mapping[str, Any],
        *,
        clipped: Sequence[nn.Parameter] | None = None,
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
        draw: Callable[[Path, Batch], None] | None = None,
    ) -> None:
        self.fabric, self.files = fabric, files
        self.pace, self.facts = pace, facts
        self.objective, self.student = objective, student
        self._around, self._draw = around, draw
        self.average = moving_average(student, pace.ema)
        optimiser = torch.optim.AdamW(list(groups), betas=BETAS)  # type: ignore[arg-type]
        self.model, self.optimiser = fabric.setup(objective, optimiser)
        self.average.to(fabric.device)
        self._clipped = clipped or _parameters(self.optimiser)
        self.step = self._saved_step = 0
        self.seconds = 0.0
        self.problems: dict[str, None] = {}  # sentences about images, each once, in order

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if it has one; ResultsError if it is damaged or another run's."""
        path = self.files.checkpoint
        if not path.exists():
            return
        # read to the CPU: loading moves what must move, AdamW's counters must not
        content = read_checkpoint(path)
        if content.get("key") != self.facts["key"]:
            raise ResultsError(
                f"{path}: is a checkpoint of {content.get('key')}, not of {self.facts['key']}; "
                "choose another folder or remove it"
            )
        objective = _upgraded(content["objective"])
        self.objective.load_state_dict(objective)
        self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step = self._saved_step = content["step"]
        self.seconds = content["seconds"]
        self.problems = dict.fromkeys(content.get("bad", ()))
        if self.fabric.is_global_zero:
            say(f"resumed at step {self.step} of {self.pace.steps}")

    def play(
        self,
        batches: Iterable[Batch],
        rate: Callable[[int], float],
        *,
        until: int,
        log: Log,
        scale: float = 1.0,
        n_images: int | None = None,
    ) -> None:
        """Steps up to `until`, and a checkpoint of the last one.

        batches  : `accumulate` for every step that is left
        rate     : factor on the groups' peak rates at a step
        scale    : factor on all of them
        n_images : that batches are taken from; ResultsError if too many of them cannot be read
        TrainingError if the loss or its gradient is no number; the last checkpoint stays.
        """
        pace = self.pace
        self.model.train()
        coming = iter(batches)
        clock = time.monotonic()  # not the time of day, which may be set back
        while self.step < until:
            values, waited_s, batch = self._step(coming, scale, rate(self.step))
            self.step += 1
            now = time.monotonic()
            took_s, clock = now - clock, now
            self.seconds += took_s
            n_samples = len(batch) * pace.accumulate * self.fabric.world_size
            log.add(values, batch.source, n_samples, waited_s, took_s)
            if self.step % pace.log_every == 0 or self.step == until:
                log.write(self.step)
                if n_images is not None:
                    self._require_good_images(n_images)
            self._picture(batch)
            if self.step % pace.checkpoint_every == 0:
                self.save()
                log.draw()
        log.draw()
        del coming  # ends the workers
        self.save()

    def save(self) -> None:
        """Replace the checkpoint; only the first process writes."""
        if self.fabric.is_global_zero:
            content = {
                **self.facts,
                "step": self.step,
                "seconds": self.seconds,
                "objective": self.objective.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "bad": list(self.problems),
            }
            write_checkpoint(self.files.checkpoint, content)
        self._saved_step = self.step
        self.fabric.barrier()  # nobody goes on before it is on the disk

    def _step(self, coming: Iterator[Batch], scale: float, rate: float) -> tuple[dict[str, float], float, Batch]:
        """Scalars to log, seconds spent waiting for data, and the last batch."""
        fabric, accumulate = self.fabric, self.pace.accumulate
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak_lr"] * scale * rate
        sums: dict[str, Tensor] = {}
        names: list[str] = []
        waited_s = 0.0
        for part in range(accumulate):
            start = time.monotonic()
            batch = next(coming)
            waited_s += time.monotonic() - start
            self._note(batch.problems)
            names += batch.names
            batch = batch.to(fabric.device)
            is_last = part == accumulate - 1
            # gradients of all processes are averaged once a step, at its last batch
            with fabric.no_backward_sync(self.model, enabled=not is_last):
                with self._around():
                    terms = self.model(batch)
                fabric.backward(terms["loss"] / accumulate)
            for name, value in terms.items():
                # they stay on the device: a number on the CPU would wait for the whole step
                part_of_mean = value.detach() / accumulate
                sums[name] = sums.get(name, 0.0) + part_of_mean
        norm = nn.utils.clip_grad_norm_(self._clipped, self.pace.clip_norm)
        if not math.isfinite(float(norm)):  # before the weights are touched
            self._stop(float(sums["loss"]), float(norm), names)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update_parameters(self.student)
        means: Any = fabric.all_reduce(sums, reduce_op="mean")
        values = {name: float(value) for name, value in means.items()}
        lr = self.optimiser.param_groups[0]["lr"]
        values |= {"grad_norm": float(norm), "lr": lr}
        return values, waited_s, batch

    def _stop(self, loss: float, norm: float, names: list[str]) -> None:
        """TrainingError with the images of the step, those of other processes too."""
        everyone = _distinct(self._gathered(names))
        kept = "there is no checkpoint yet"
        if self._saved_step:
            kept = f"the checkpoint of step {self._saved_step} is kept"
        raise TrainingError(
            f"step {self.step}: the loss or its gradient is no number (loss {loss:g}, gradient {norm:g}) on "
            f"{', '.join(everyone)}; {kept} in {self.files.folder}: look at these images, or start another run with "
            "a lower optimiser.lr from its export (student.checkpoint)"
        )

    def _picture(self, batch: Batch) -> None:
        """Draw what the student predicts, where it is time to."""
        every = self.pace.picture_every
        if self._draw is None or every is None or not self.fabric.is_global_zero:
            return
        if self.step % every == 0 or self.step == self.pace.steps:
            self._draw(self.files.picture(self.step), batch)

    def _note(self, problems: Iterable[str]) -> None:
        """Say each problem once: an image is met again in every epoch."""
        for problem in problems:
            if problem not in self.problems:
                self.problems[problem] = None
                say(f"left out: {problem}")

    def _gathered(self, sentences: list[str]) -> list[list[str]]:
        """The lists of all processes."""
        if self.fabric.world_size == 1:
            return [sentences]
        # places that the call fills
        everyone: list[list[str]] = [[] for _ in range(self.fabric.world_size)]
        torch.distributed.all_gather_object(everyone, sentences)
        return everyone

    def _require_good_images(self, n_images: int) -> None:
        """Every process stops, or none: each knows only what its own samples met."""
        bad = _distinct(self._gathered(list(self.problems)))
        if len(bad) > MAX_BAD_SHARE * n_images:
            raise ResultsError(
                f"{len(bad)} of {n_images} images cannot be read, e.g. {bad[0]}; `hvlabel verify --deep` lists them all"
            )


def _parameters(optimiser: Any) -> list[nn.Parameter]:
    """In the order of the groups."""
    parameters: list[nn.Parameter] = []
    for group in optimiser.param_groups:
        parameters += group["params"]
    return parameters


def _distinct(lists: Iterable[Sequence[str]]) -> list[str]:
    """Each sentence of some lists once, sorted: the same in every process."""
    return sorted(set().union(*lists))


def _upgraded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An objective's state dict as it is written now: once there was a centre of tokens even without a teacher."""
    upgraded = dict(state)
    centre = upgraded.pop("teacher_centre", None)
    if centre is not None and len(centre):
        upgraded["teacher_centre.mean"] = centre
    return upgraded
