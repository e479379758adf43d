"""A recipe, played: its stages one after another, from the checkpoint if there is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hvlabel.cache.publish import make_folder, publish_bytes
from hvlabel.config import HardwareSettings, OptimiserSettings
from hvtrain.backbones.weights import export
from hvtrain.engine.devices import launched
from hvtrain.engine.log import Log
from hvtrain.engine.loop import Loop, Pace
from hvtrain.engine.optimiser import parameter_groups
from hvtrain.engine.run_folder import RunFiles
from hvtrain.recipes.stages import Make, Stage, StageBatches

LOG_EVERY, CHECKPOINT_EVERY = 50, 100  # steps
# lr 1: each stage has its own, by which the rates of a play are multiplied
OPTIMISER = OptimiserSettings(lr=1.0, lr_fan_in=96, decoder_lr=0.5, weight_decay=0.02, ema=0.998)


def begin(threads: int) -> Fabric:
    """What comes before the first weights: they, and sums, depend on it."""
    hardware = HardwareSettings(accelerator="cpu", precision="bf16-mixed", threads=threads)
    fabric = launched(hardware)
    torch.manual_seed(0)
    return fabric


def play(
    fabric: Fabric,
    objective: nn.Module,
    network: nn.Module,
    out: Path,
    recipe: str,
    make: Make,
    stages: Sequence[Stage],
    workers: int,
    weights: str,
    *,
    prompted: tuple[str, ...] = (),
    begin_stage: Callable[[Stage], None],
    names: Sequence[str],
    log_every: int = LOG_EVERY,
) -> None:
    """All stages; then the averaged weights of the network in half precision as OUT/weights.

    out         : folder of checkpoint, log and weights; ResultsError if its checkpoint is another recipe's
    recipe      : what is trained
    prompted    : starts of the names of parameters that have half the rate
    begin_stage : called before the first step of each stage
    names       : scalars that the objective gives
    """
    files = RunFiles(out)
    make_folder(out)
    pace = Pace(
        steps=sum(stage.steps for stage in stages),
        ema=OPTIMISER.ema,
        log_every=log_every,
        checkpoint_every=CHECKPOINT_EVERY,
    )
    loop = Loop(
        fabric,
        objective,
        network,
        groups=parameter_groups(objective, OPTIMISER, prompted),
        files=files,
        pace=pace,
        facts={"key": recipe},
        clipped=list(objective.parameters()),
        around=partial(sdpa_kernel, SDPBackend.MATH),  # small heads are slow in the CPU's flash kernel
    )
    loop.resume()
    _note_start(out / "recipe.json", recipe, loop.step, stages)
    log = Log(files, names, first_step=loop.step, n_steps=pace.steps, active=fabric.is_global_zero)
    first_step = 0
    for stage in stages:
        end = first_step + stage.steps
        if loop.step < end:
            begin_stage(stage)
            left = range(loop.step - first_step, stage.steps)
            batches = StageBatches(make, stage, first_step, left).loader(workers)
            rate = partial(_rate, stage, first_step)
            loop.play(batches, rate, until=end, log=log, scale=stage.lr)
        first_step = end
    log.close()
    average: nn.Module = loop.average.module
    export(_halved(average.state_dict()), out / weights)


def _halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Numbers in half precision; counts as they are."""
    halved = {}
    for name, tensor in state.items():
        halved[name] = tensor.half() if tensor.is_floating_point() else tensor
    return halved


def _rate(stage: Stage, first_step: int, step: int) -> float:
    """Factor on the stage's rate at a step of the whole training."""
    return stage.rate(step - first_step)


def _note_start(path: Path, recipe: str, step: int, stages: Sequence[Stage]) -> None:
    """Add a start to the record: longer stages may be asked for than those that a checkpoint came from."""
    starts: list[dict[str, Any]] = json.loads(path.read_bytes()) if path.exists() else []
    rows = [asdict(stage) for stage in stages]
    starts.append({"step": step, "recipe": recipe, "stages": rows})
    text = json.dumps(starts, indent=1) + "\n"
    publish_bytes(path, text.encode())
