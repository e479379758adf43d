"""Checkpoints: whole or not at all."""

import pytest
import torch

from hvlabel.errors import ResultsError
from hvtrain.engine.checkpoint import averaged_student, read_checkpoint, sweep, write_checkpoint


def test_a_checkpoint_comes_back_and_a_failed_one_leaves_the_older(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"step": 1, "weight": torch.arange(3)})
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint(path, {"step": 2, "weight": lambda: None})
    content = read_checkpoint(path)
    assert content["step"] == 1
    assert content["weight"].tolist() == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 2  # the half one is for `sweep`
    sweep(path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_averaged_student_is_told_apart_from_the_counter_and_older_files_are_of_the_first_backbone(tmp_path):
    path = tmp_path / "checkpoint.pt"
    average = {"n_averaged": torch.tensor(3), "module.weight": torch.ones(2)}
    write_checkpoint(path, {"average": average, "step": 7, "topology": {"depth": 2}})
    state, step, backbone, sizes = averaged_student(path)
    assert list(state) == ["weight"]
    assert (step, backbone, sizes) == (7, "hyperfree", {"depth": 2})


def test_a_missing_or_damaged_checkpoint_is_one_sentence(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(ResultsError, match="no checkpoint; is this the folder of a run"):
        read_checkpoint(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ResultsError, match=r"not a readable checkpoint .* delete it to start this run anew"):
        read_checkpoint(path)
