"""Who starts the processes of a run: nobody waits for tasks that were never started, nothing warns."""

import os

import pytest

from hvlabel.config import HardwareSettings
from hvlabel.errors import ConfigError
from hvtrain.engine.devices import launched

SALLOC = {"SLURM_JOB_ID": "1", "SLURM_NNODES": "1"}
SURROUNDINGS = {
    "no scheduler": {},
    "an allocation of one task": SALLOC | {"SLURM_NTASKS": "1"},
    "an allocation of four tasks": SALLOC | {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"},
    "its interactive shell": SALLOC | {"SLURM_NTASKS": "4", "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "interactive"},
    "a batch script": SALLOC | {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NAME": "fit"},
    "srun of one task": SALLOC | {"SLURM_NTASKS": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
    "an allocation of two nodes": SALLOC | {"SLURM_NNODES": "2", "SLURM_NTASKS": "2", "SLURM_NODELIST": "node[1-2]"},
    "no GPU": {"CUDA_VISIBLE_DEVICES": ""},
    "threads": {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "2"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _srun(tmp_path, monkeypatch):
    """SLURM is installed, and nothing else is said about it."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_run_that_nobody_has_started_in_parts_is_one_process(monkeypatch, name):
    for variable, value in SURROUNDINGS[name].items():
        monkeypatch.setenv(variable, value)
    fabric = launched(HardwareSettings(accelerator="cpu"))
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


def test_nodes_that_nobody_has_started_are_not_waited_for(monkeypatch):
    for variable, value in SURROUNDINGS["an allocation of two nodes"].items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=r"nodes is 2, but nobody has started .*srun --nodes=2 --ntasks-per-node=1"):
        launched(HardwareSettings(accelerator="cpu", nodes=2))


@pytest.mark.parametrize("per_node", [None, "1"])
def test_tasks_that_are_not_spread_as_the_settings_say_are_one_sentence(monkeypatch, per_node):
    step = {
        "SLURM_NTASKS": "2",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
    }
    for variable, value in (SALLOC | step).items():
        monkeypatch.setenv(variable, value)
    if per_node:
        monkeypatch.setenv("SLURM_NTASKS_PER_NODE", per_node)
    with pytest.raises(ConfigError, match=r"SLURM started 2 tasks, but not with --ntasks-per-node=2"):
        launched(HardwareSettings(accelerator="cpu", devices=2))
