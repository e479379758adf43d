"""Where learned models run: one GPU per process, leased by a file lock, or the CPU."""

from __future__ import annotations

import ctypes
import os
import tempfile
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from hvlabel.errors import ConfigError

# of glibc's mallopt: parameter and value in bytes; the largest values it takes
KEEP_FREED = {-1: 2**31 - 1, -3: 32 << 20}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD

_leases: list[FileLock] = []  # held until the process ends


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for it; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # absent before PyTorch 2.10
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def choose_device(device: str) -> torch.device:
    """The device of this process.

    device : auto (a GPU when there is one), cpu, or cuda; ConfigError for cuda where there is none
    Workflow engines count GPUs but do not assign them: each process takes the first GPU whose lock is free, and shares
    them in turn when all are taken. Of the several that a batch system gave to one allocation, likewise.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ConfigError("run.device is cuda but PyTorch sees no GPU; use auto or cpu, or mend the driver")
    if device == "cpu" or not has_gpu:
        os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # products that do not depend on the number of threads
        _keep_freed_memory()
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if count == 1:
        return torch.device("cuda:0")
    leased = _lease_free_gpu(count)
    return torch.device(f"cuda:{os.getpid() % count if leased is None else leased}")


def _lease_free_gpu(count: int) -> int | None:
    """The first of `count` visible GPUs that no other process of this user has leased, or None."""
    every = ",".join(map(str, range(count)))
    # a lock is named by the machine's own number of a GPU: processes may see different ones as their first
    names = os.environ.get("CUDA_VISIBLE_DEVICES", every).split(",")
    # SLURM may count the GPUs of every allocation from 0
    whose = f"{os.getuid()}-{os.environ.get('SLURM_JOB_ID', 'here')}"
    for k in range(count):
        lock = FileLock(Path(tempfile.gettempdir()) / f"hvlabel-gpu-{whose}-{names[k].strip()}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _leases.append(lock)
        return k
    return None


def _keep_freed_memory() -> None:
    """Let large tensors take the place of freed ones; C libraries other than GNU's stay as they are.

    The library gives each back to the system, which then clears every page of the next: up to a quarter of the time of
    a small network in bfloat16.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in KEEP_FREED.items():
            mallopt(parameter, value)
