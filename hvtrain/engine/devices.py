"""What a run is computed on."""

from __future__ import annotations

import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from hvlabel.config import HardwareSettings
from hvlabel.errors import ConfigError


def launched(hardware: HardwareSettings) -> Fabric:
    """The engine of this process, after all processes of the run have been started.

    ConfigError where the machine has not what the settings ask for.
    """
    _require_devices(hardware)
    # which dictionary slots and prompt embeddings take part differs from step to step
    strategy = DDPStrategy(find_unused_parameters=True) if _several(hardware) else "auto"
    # a batch job of one task starts the processes of its node itself; with several tasks the scheduler has done so
    environment = LightningEnvironment() if os.environ.get("SLURM_NTASKS") == "1" else None
    fabric = Fabric(
        accelerator=hardware.accelerator,
        devices=hardware.processes(),
        num_nodes=hardware.nodes,
        precision=hardware.precision,
        strategy=strategy,
        plugins=environment,
    )
    fabric.launch()
    torch.set_num_threads(hardware.threads)
    torch.set_flush_denormal(True)  # saturated masks make denormals, which are many times slower
    return fabric


def keep_sums_the_same() -> None:
    """The same bits on a busy machine, where MKL takes fewer threads; before the first product of the process."""
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def _several(hardware: HardwareSettings) -> bool:
    """Whether the run has several processes, of whoever started them."""
    processes = hardware.processes() * hardware.nodes
    return processes > 1 or int(os.environ.get("WORLD_SIZE", 1)) > 1


def _require_devices(hardware: HardwareSettings) -> None:
    """ConfigError before a process is started: later it would be a hang, or an error from inside a library."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if hardware.accelerator == "cuda" and n_gpus < hardware.processes():
        raise ConfigError(
            f"pretrain.hardware asks for {hardware.processes()} GPUs, PyTorch sees {n_gpus}; "
            "lower devices, or set accelerator to cpu"
        )
    tasks = int(os.environ.get("SLURM_NTASKS", 1))
    n_processes = hardware.processes() * hardware.nodes
    if tasks not in (1, n_processes):
        raise ConfigError(
            f"SLURM started {tasks} tasks, pretrain.hardware says {hardware.nodes} nodes with "
            f"{hardware.processes()} processes each; make them equal"
        )
