"""The parts of a recipe's training, and its batches in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from hvlabel.config import LossSettings
from hvtrain.data.batch import Batch
from hvtrain.data.loader import start_worker

TRAIN_SEEDS = 1_000_000_000  # of training scenes, upwards; benches use seeds below a million
SCENES_PER_STEP = 8  # seeds set aside for a step, so that no scene is made twice
BATCHES_AHEAD = 4  # of each worker


@dataclass(frozen=True)
class Stage:
    """A part of the training. The rate rises over warmup_steps, stays, and falls linearly to 0.

    side_px   : of the network's input
    logits_px : side of the decoder's output
    scene_px  : sides of the scenes, drawn at random and resized to side_px
    images    : scenes per step
    objects   : prompts on objects per scene
    grounds   : prompts per scene beside all objects, in steps without boxes
    frames    : of a sequence; 1 for single pictures
    fall      : share of the steps over which the rate falls
    boxed     : share of the steps that begin with boxes
    hidden    : share of the prompts on objects that only a spectrum shows, where a scene has both kinds
    balanced, edge : weights of these losses of masks
    """

    steps: int
    side_px: int
    logits_px: int
    scene_px: tuple[int, ...]
    images: int
    objects: int
    grounds: int
    lr: float
    warmup_steps: int = 150
    frames: int = 1
    fall: float = 0.2
    boxed: float = 0.25
    hidden: float = 0.5
    balanced: float = 0.2
    edge: float = 0.0

    def __post_init__(self) -> None:
        assert self.images <= SCENES_PER_STEP
        assert 0 < self.hidden < 1

    @property
    def loss(self) -> LossSettings:
        """Weights of the losses of masks and heads."""
        return LossSettings(iou=2.0, shortcut=1.0, dense=0.3, balanced=self.balanced, edge=self.edge)

    def rate(self, step: int) -> float:
        """Factor on the peak rate at a step of this stage."""
        n_falling = max(1.0, self.steps * self.fall)
        rising = (step + 1) / self.warmup_steps
        falling = (self.steps - step) / n_falling
        return min(1.0, rising, falling)

    def seeds(self, step: int) -> range:
        """Of the scenes of a step of the training."""
        first = TRAIN_SEEDS + step * SCENES_PER_STEP
        return range(first, first + self.images)


Make = Callable[[Stage, int], Batch]  # the batch of a stage and a step of the training


class StageBatches(IterableDataset[Batch]):
    """The batches of some steps of a stage that begins at first_step; worker k of n makes every n-th."""

    def __init__(self, make: Make, stage: Stage, first_step: int, steps: range) -> None:
        self.make, self.stage, self.first_step, self.steps = make, stage, first_step, steps

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        start, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        # the loader takes from its workers in turn: the steps come in order
        for step in self.steps[start::stride]:
            yield self.make(self.stage, self.first_step + step)

    def loader(self, workers: int) -> DataLoader[Any]:
        """What iterates over them; without workers in this process."""
        return DataLoader(
            self,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=BATCHES_AHEAD if workers else None,
            multiprocessing_context="forkserver" if workers else None,
            worker_init_fn=start_worker,
        )
