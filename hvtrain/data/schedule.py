"""Which images each step trains on: a function of seed and step, so a run resumes anywhere, with any workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

CAMERA, ORDER, CROP, NETWORK, PROMPT = range(5)  # streams of random numbers that never meet


def rng(seed: int, stream: int, *place: int) -> np.random.Generator:
    """The generator of a place (step, sample, ...) in one stream."""
    return np.random.default_rng([seed, stream, *place])


class Schedule:
    """Batches of one camera each.

    images_of : per camera the images to draw from; every one is shown once before any is shown again
    Cameras are drawn with probability proportional to n ** (1 / temperature).
    """

    def __init__(
        self, images_of: Sequence[Sequence[int]], batch: int, steps: int, seed: int, temperature: float
    ) -> None:
        self._images_of, self._seed = images_of, seed
        self.batch, self.steps = batch, steps
        n_images = np.array([len(images) for images in images_of], float)
        share = n_images ** (1 / temperature)
        share[n_images == 0] = 0  # a power of 0 would make it 1
        chances = share / share.sum()
        # all at once: the camera of a step does not depend on where a run began
        self.cameras = rng(seed, CAMERA).choice(len(images_of), size=steps, p=chances)  # (steps,)
        self._earlier = np.zeros(steps, np.int64)  # batches of the same camera before each step
        for camera in range(len(images_of)):
            is_its = self.cameras == camera
            self._earlier[is_its] = np.arange(is_its.sum())
        # a batch reads one or two epochs of a camera; processes and parts of a step come back to them
        self._order = lru_cache(maxsize=4 * len(images_of))(self._shuffled)

    def images(self, step: int) -> list[int]:
        """The step's images, `batch` of them."""
        camera = int(self.cameras[step])
        n = len(self._images_of[camera])
        first = int(self._earlier[step]) * self.batch  # images of this camera shown before
        images = []
        for k in range(first, first + self.batch):
            epoch, place = divmod(k, n)
            order = self._order(camera, epoch)
            images.append(int(order[place]))
        return images

    def _shuffled(self, camera: int, epoch: int) -> np.ndarray:
        """(n,) a camera's images in the order of one epoch."""
        images = np.asarray(self._images_of[camera])
        return rng(self._seed, ORDER, camera, epoch).permutation(images)


Sample = tuple[int, int, int]  # step, position in the step's batch, image


class BatchOrder:
    """Sampler for a DataLoader: one list of samples per micro-batch, for one process of several.

    first_step : where to begin
    parts      : micro-batches per step and process
    """

    def __init__(
        self, schedule: Schedule, first_step: int = 0, *, rank: int = 0, world: int = 1, parts: int = 1
    ) -> None:
        self.schedule, self.first_step = schedule, first_step
        self.rank, self.world, self.parts = rank, world, parts
        self.size = schedule.batch // (world * parts)  # samples in each list

    def __len__(self) -> int:
        return (self.schedule.steps - self.first_step) * self.parts

    def __iter__(self) -> Iterator[list[Sample]]:
        for step in range(self.first_step, self.schedule.steps):
            images = self.schedule.images(step)
            for part in range(self.parts):
                # part by part, process by process: together a step's images, however many there are of either
                first = (part * self.world + self.rank) * self.size
                positions = range(first, first + self.size)
                yield [(step, k, images[k]) for k in positions]
