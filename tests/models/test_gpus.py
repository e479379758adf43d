"""Which GPU a process takes: distinct ones, on a machine that only says it has some."""

import subprocess
import sys

import pytest
import torch

from hvlabel.errors import ConfigError
from hvlabel.models.device import choose_device

TAKES = """
import sys, torch
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 2
from hvlabel.models.device import choose_device
print(choose_device("auto"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def taken(tmp_path, repository, monkeypatch):
    """Starts a process that takes a device and keeps it; what it took."""
    processes = []
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def take(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen([sys.executable, "-c", TAKES], cwd=repository, **pipes))
        return processes[-1].stdout.readline().strip()

    yield take
    for process in processes:
        process.communicate()


def test_processes_take_distinct_gpus_inside_an_allocation_too(taken):
    assert [taken(), taken()] == ["cuda:0", "cuda:1"]
    assert [taken(SLURM_JOB_ID="7"), taken()] == ["cuda:0", "cuda:1"]  # another job's GPUs are counted from 0 again
    assert taken() in ("cuda:0", "cuda:1")  # all are taken: shared


def test_without_a_gpu_it_is_the_cpu_and_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"run\.device is cuda but PyTorch sees no GPU"):
        choose_device("cuda")


def test_the_only_gpu_is_taken_without_a_lock(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cuda:0")
