"""Which GPU a process takes: distinct ones, on a machine that only says it has some."""

import pytest
import torch

from hvlabel.errors import ConfigError
from hvlabel.models import device
from hvlabel.models.device import choose_device


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """Every call takes a lock of its own, as every process does."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    for name in ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    before = list(device._leases)
    yield
    for lock in device._leases[len(before) :]:
        lock.release()
    device._leases[:] = before


def test_processes_take_distinct_gpus_inside_an_allocation_too(two_gpus, monkeypatch):
    assert [str(choose_device("auto")) for _ in range(2)] == ["cuda:0", "cuda:1"]
    assert str(choose_device("auto")) in ("cuda:0", "cuda:1")  # all are taken: shared
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # another job's GPUs are counted from 0 again
    assert [str(choose_device("auto")) for _ in range(2)] == ["cuda:0", "cuda:1"]


def test_a_gpu_is_known_by_the_machines_number(two_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert str(choose_device("auto")) == "cuda:0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    assert str(choose_device("auto")) == "cuda:1"


def test_without_a_gpu_it_is_the_cpu_and_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"run\.device is cuda but PyTorch sees no GPU"):
        choose_device("cuda")


def test_the_only_gpu_is_taken_without_a_lock(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cuda:0")
