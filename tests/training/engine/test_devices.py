"""What a run is computed on: refusals before any process is started."""

import pytest
import torch

from hvlabel.config import HardwareSettings
from hvlabel.errors import ConfigError
from hvtrain.engine.devices import launched


def test_gpus_that_are_not_there_are_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="asks for 2 GPUs, PyTorch sees 0"):
        launched(HardwareSettings(accelerator="cuda", devices=2))


def test_a_scheduler_that_started_other_processes_is_one_sentence(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "0")
    with pytest.raises(ConfigError, match=r"SLURM started 4 tasks, pretrain.hardware says 1 nodes with 1 processes"):
        launched(HardwareSettings(accelerator="cpu"))
