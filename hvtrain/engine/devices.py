"""What a run is computed on."""

from __future__ import annotations

import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.lsf import LSFEnvironment
from lightning_fabric.plugins.environments.mpi import MPIEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from hvlabel.config import HardwareSettings
from hvlabel.errors import ConfigError

# set by those who start the processes of several nodes without a scheduler
LAUNCHED_BY_HAND = {"MASTER_ADDR", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE"}


def launched(hardware: HardwareSettings) -> Fabric:
    """The engine of this process, after all processes of the run have been started.

    ConfigError where the machine has not what the settings ask for.
    """
    _require_devices(hardware)
    # which dictionary slots and prompt embeddings take part differs from step to step
    strategy = DDPStrategy(find_unused_parameters=True) if _several(hardware) else "auto"
    fabric = Fabric(
        accelerator=hardware.accelerator,
        devices=hardware.processes(),
        num_nodes=hardware.nodes,
        precision=hardware.precision,
        strategy=strategy,
        plugins=_environment(),
    )
    fabric.launch()
    torch.set_num_threads(hardware.threads)
    torch.set_flush_denormal(True)  # saturated masks make denormals, which are many times slower
    return fabric


def keep_sums_the_same() -> None:
    """The same bits on a busy machine, where MKL takes fewer threads; before the first product of the process."""
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def _environment() -> ClusterEnvironment:
    """Who has started this process, and so knows of the others.

    An allocation of SLURM, in which somebody merely works, and a batch job of one task start the processes of their
    node themselves. Fabric's own choice would wait there for tasks that nobody has started, and warns wherever srun is
    installed.
    """
    if TorchElasticEnvironment.detect():  # also inside SLURM
        return TorchElasticEnvironment()
    if _tasks() > 1:
        return SLURMEnvironment()
    for scheduler in (LSFEnvironment, MPIEnvironment):
        if scheduler.detect():
            return scheduler()
    return LightningEnvironment()


def _tasks() -> int:
    """Tasks that srun has started together with this one; 1 where no srun has.

    SLURM_NTASKS would be what the allocation has room for.
    """
    n_tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    is_task = "SLURM_PROCID" in os.environ
    return int(n_tasks) if n_tasks.isdecimal() and is_task else 1


def _several(hardware: HardwareSettings) -> bool:
    """Whether the run has several processes, of whoever started them."""
    processes = hardware.processes() * hardware.nodes
    of_launcher = int(os.environ.get("WORLD_SIZE", 1))  # torchrun says it here, whatever the settings are
    return processes > 1 or of_launcher > 1


def _require_devices(hardware: HardwareSettings) -> None:
    """ConfigError before a process is started: later it would be a hang, or an error from inside a library."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if hardware.accelerator == "cuda" and n_gpus < hardware.processes():
        raise ConfigError(
            f"pretrain.hardware asks for {hardware.processes()} GPUs, PyTorch sees {n_gpus}; "
            "lower devices, or set accelerator to cpu"
        )
    if TorchElasticEnvironment.detect():
        return
    tasks = _tasks()
    n_processes = hardware.processes() * hardware.nodes
    if tasks not in (1, n_processes):
        raise ConfigError(
            f"SLURM started {tasks} tasks, pretrain.hardware says {hardware.nodes} nodes with "
            f"{hardware.processes()} processes each; make them equal"
        )
    if tasks > 1 and os.environ.get("SLURM_NTASKS_PER_NODE") != str(hardware.processes()):
        raise ConfigError(
            f"SLURM started {tasks} tasks, but not with --ntasks-per-node={hardware.processes()}, the processes of a "
            "node in pretrain.hardware; add it to srun or sbatch"
        )
    if hardware.nodes > 1 and tasks == 1 and not LAUNCHED_BY_HAND.intersection(os.environ):
        raise ConfigError(
            f"pretrain.hardware.nodes is {hardware.nodes}, but nobody has started processes on other nodes, this one "
            f"would wait for them; use srun --nodes={hardware.nodes} --ntasks-per-node={hardware.processes()} or "
            "torchrun, or set nodes: 1"
        )
