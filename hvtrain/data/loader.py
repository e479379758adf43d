"""Batches prepared ahead by other processes, in bounded memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from hvlabel.config import HardwareSettings
from hvlabel.errors import ResultsError
from hvtrain.data.crops import Crops
from hvtrain.data.schedule import BatchOrder

SHARED_MEMORY = Path("/dev/shm")  # where workers put batches; absent where the system has no such bound


def make_loader(crops: Crops, order: BatchOrder, hardware: HardwareSettings, *, pin: bool) -> DataLoader[Any]:
    """Batches in the sampler's order, prepared ahead by workers that are started afresh (never forked)."""
    workers = hardware.workers
    batch_bytes = crops.bytes_of(order.size)
    prefetch = batches_ahead(batch_bytes, hardware) if workers else None
    return DataLoader(
        crops,
        batch_sampler=order,
        collate_fn=as_it_is,
        num_workers=workers,
        prefetch_factor=prefetch,
        # a fork of a process with threads (torch, OpenCV) may hang for ever
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=start_worker,
        pin_memory=pin,
    )


def batches_ahead(batch_bytes: int, hardware: HardwareSettings, shared: Path = SHARED_MEMORY) -> int:
    """Batches that each worker prepares, so that all together fill at most half of what shared memory has free.

    ResultsError if not even one of each worker fits.
    """
    if not shared.is_dir():
        return hardware.prefetch
    free_bytes = shutil.disk_usage(shared).free
    workers = hardware.workers * hardware.processes()
    least_bytes = 2 * batch_bytes * workers  # one batch that is made, one that is used
    if least_bytes > free_bytes:
        raise ResultsError(
            f"{shared}: {free_bytes / 2**30:.1f} GiB free, {workers} workers need {least_bytes / 2**30:.1f} for two "
            "batches each; raise pretrain.optimiser.accumulate, lower batch_images or hardware.workers, "
            "or enlarge it (containers: --shm-size)"
        )
    fitting = free_bytes // 2 // (batch_bytes * workers)  # half of it: others use shared memory too
    return max(1, min(hardware.prefetch, fitting))


def as_it_is(batch: Any) -> Any:
    """The batch: the data set has collated it already."""
    return batch


def start_worker(_: int) -> None:
    """Settings of a process that prepares batches: one thread, since there are many such processes."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
