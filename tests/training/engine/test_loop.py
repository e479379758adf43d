"""Runs of a few steps: exact resume, several processes, one sentence for what goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from filelock import FileLock
from indexes import change_entries
from verbs import hvtrain

from hvlabel.errors import ResultsError, TrainingError
from hvlabel.layout import Layout
from hvtrain.data.corpus import read_corpus
from hvtrain.engine.checkpoint import averaged_student
from hvtrain.engine.run_folder import RunFiles, read_metrics
from hvtrain.objectives.combined import CombinedObjective
from hvtrain.pretrain import pretrain, run_key

from ..conftest import tiny


@pytest.fixture
def own(layout, tmp_path):
    """A copy of the folder that a test may train in."""
    shutil.copytree(layout.root, tmp_path / "own", ignore=shutil.ignore_patterns("pretrain"))
    return Layout(tmp_path / "own")


NO_TEACHER = '{"backend": "none"}'


def of_a_run(layout, settings, teacher=NO_TEACHER):
    """The arguments by which a program knows a run."""
    return "--results", str(layout.root), "--settings", settings.model_dump_json(), "--teacher", teacher


def command(layout, settings, teacher=NO_TEACHER):
    """`hvtrain fit` as a program of its own: only where processes are started or killed, for it takes seconds."""
    return [sys.executable, "-m", "hvtrain", "fit", *of_a_run(layout, settings, teacher)]


def losses(layout, run="default"):
    return [float(row["loss"]) for row in read_metrics(RunFiles(layout.pretrain(run)).metrics)]


def weights(layout, run="default"):
    return averaged_student(RunFiles(layout.pretrain(run)).checkpoint)[0]


def test_a_run_leaves_everything_it_promises_and_is_not_repeated(own):
    settings = tiny()
    folder = pretrain(own, settings, distill=True)
    files = RunFiles(folder)
    facts = json.loads(files.facts.read_bytes())
    assert (facts["steps"], facts["images"], facts["distilled"]) == (4, 6, True)
    rows = read_metrics(files.metrics)
    assert [int(r["step"]) for r in rows] == [1, 2, 3, 4]
    assert all(float(r[name]) > 0 for r in rows for name in ("mask", "distill", "dense", "shortcut"))
    assert all(0 <= float(r["waiting_share"]) < 1 for r in rows)
    assert files.curves.stat().st_size > 1000
    assert (folder / "pictures/step_0000003.png").stat().st_size > 1000
    assert list((folder / "tensorboard").iterdir())
    before = files.weights.stat().st_mtime_ns
    assert pretrain(
        own, settings.model_copy(update={"hardware": settings.hardware.model_copy(update={"threads": 2})}), distill=True
    )
    assert files.weights.stat().st_mtime_ns == before


def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(own, tmp_path):
    settings = tiny(
        optimiser={"steps": 12}, hardware={"workers": 1}, data={"band_dropout": 0.3, "spectral_jitter": 0.05}
    )
    pretrain(own, settings, distill=False)
    unbroken = weights(own)
    other = Layout(tmp_path / "other")
    shutil.copytree(own.root, other.root, ignore=shutil.ignore_patterns("pretrain"))
    process = subprocess.Popen(command(other, settings), stderr=subprocess.DEVNULL, start_new_session=True)
    checkpoint = RunFiles(other.pretrain("default")).checkpoint
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < averaged_student(RunFiles(other.pretrain("default")).checkpoint)[1] < 12
    assert not RunFiles(other.pretrain("default")).facts.exists()
    said = hvtrain("fit", *of_a_run(other, settings))
    assert said.status == 0, said.err
    assert "resumed at step" in said.err
    resumed = weights(other)
    assert all(torch.equal(unbroken[k], resumed[k]) for k in unbroken)
    assert losses(own) == pytest.approx(losses(other), rel=1e-5)
    assert len(losses(other)) == 12


def test_two_processes_equal_one_with_twice_the_batch(own, config):
    one = tiny(optimiser={"steps": 3, "batch_images": 4}, data={"band_dropout": 0.2, "spectral_jitter": 0.05})
    two = one.model_copy(update={"run": "two", "hardware": one.hardware.model_copy(update={"devices": 2})})
    pretrain(own, one, distill=True)
    both = command(own, two, config.teacher.to_json())
    done = subprocess.run(both, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(losses(own), losses(own, "two"), atol=1e-4)
    split = one.model_copy(update={"run": "split", "optimiser": one.optimiser.model_copy(update={"accumulate": 2})})
    pretrain(own, split, distill=True)
    np.testing.assert_allclose(losses(own), losses(own, "split"), atol=1e-4)


def test_recomputed_blocks_change_nothing(own):
    for name, recompute in (("plain", False), ("again", True)):
        pretrain(own, tiny(run=name, optimiser={"steps": 2}, hardware={"checkpoint_blocks": recompute}), distill=False)
    assert losses(own, "plain") == pytest.approx(losses(own, "again"), abs=1e-6)


def test_a_loss_that_is_no_number_stops_names_the_batch_and_keeps_the_checkpoint(own, monkeypatch):
    settings = tiny(optimiser={"steps": 6})
    forward = CombinedObjective.forward

    def poisoned(self, batch):
        terms = forward(self, batch)
        return {**terms, "loss": terms["loss"] * float("nan")} if batch.step == 3 else terms

    monkeypatch.setattr(CombinedObjective, "forward", poisoned)
    with pytest.raises(
        TrainingError,
        match=r"step 3: the loss or its gradient is no number .* on (vis|mosaic)/.*the checkpoint of step 2 is kept",
    ):
        pretrain(own, settings, distill=False)
    state, step, *_ = averaged_student(RunFiles(own.pretrain("default")).checkpoint)
    assert step == 2
    assert all(torch.isfinite(v).all() for v in state.values())


def test_other_settings_move_the_older_run_aside(own, capsys):
    pretrain(own, tiny(), distill=False)
    before = {k: v.clone() for k, v in weights(own).items()}
    pretrain(own, tiny(optimiser={"steps": 2}), distill=False)
    assert "moved to" in capsys.readouterr().err
    older = [p for p in own.root.glob("pretrain/default-*") if p.is_dir()]
    assert len(older) == 1
    assert all(torch.equal(v, before[k]) for k, v in averaged_student(RunFiles(older[0]).checkpoint)[0].items())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_camera_of_which_nothing_can_be_read_is_one_sentence(own, capsys, workers):
    for path in (own.root / "cubes/mosaic").glob("*.zarr/cube/c/0/0/0"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")  # the index of chunks no longer matches its checksum
    with pytest.raises(
        ResultsError, match=r"of 6 images cannot be read, e.g. .*mosaic16_0.*the chunk index is damaged"
    ):
        pretrain(own, tiny(hardware={"workers": workers}), distill=True)
    assert capsys.readouterr().err.count("left out:") == 3


def test_a_damaged_checkpoint_is_named_and_nothing_is_thrown_away(own):
    settings = tiny()
    files = RunFiles(pretrain(own, settings, distill=False))
    files.checkpoint.write_bytes(b"nonsense")
    files.weights.unlink()  # so the run is not complete
    with pytest.raises(
        ResultsError, match=r"checkpoint.pt: not a readable checkpoint .* delete it to start this run anew"
    ):
        pretrain(own, settings, distill=False)
    assert files.checkpoint.read_bytes() == b"nonsense"
    files.checkpoint.unlink()
    with pytest.raises(ResultsError, match="no checkpoint; is this the folder of a run"):
        averaged_student(files.checkpoint)


def test_a_finished_run_is_known_without_its_declared_output(own):
    files = RunFiles(pretrain(own, tiny(), distill=False))
    before = files.facts.read_bytes(), files.weights.stat().st_mtime_ns
    files.facts.unlink()  # as a workflow engine does before a job
    files.checkpoint.unlink()
    pretrain(own, tiny(), distill=False)
    assert (files.facts.read_bytes(), files.weights.stat().st_mtime_ns) == before


def test_one_run_of_a_name_at_a_time(own):
    lock = FileLock(own.pretrain("") / ".default.lock")
    own.pretrain("").mkdir(parents=True)
    with lock, pytest.raises(ResultsError, match="another process is training a run of this name"):
        pretrain(own, tiny(), distill=False)
    assert not own.pretrain("default").exists()


def test_half_precision_keeps_coordinates_and_losses_whole(own):
    rows = {}
    for name, precision in (("whole", "32-true"), ("half", "bf16-mixed")):
        folder = pretrain(own, tiny(run=name, optimiser={"steps": 1}, hardware={"precision": precision}), distill=True)
        rows[name] = {
            k: float(v) for k, v in read_metrics(RunFiles(folder).metrics)[0].items() if k in ("mask", "distill")
        }
    assert rows["half"] == pytest.approx(rows["whole"], rel=0.08)
    assert rows["half"]["mask"] == pytest.approx(rows["whole"]["mask"], rel=0.01)
    assert rows["half"] != rows["whole"]


def test_images_without_teacher_features_are_left_out_and_named(own, capsys):
    index = own.index("teacher", "vis", "0000")
    image = next(i for i in read_corpus(own, tiny().data, distill=True).of("train") if i.dataset == "vis")
    change_entries(index, {image.image_id}, status="failed")
    pretrain(own, tiny(optimiser={"steps": 1}), distill=True)
    assert f"left out: {image.name}: no teacher features" in capsys.readouterr().err
    change_entries(index, status="failed")
    with pytest.raises(ResultsError, match="no teacher features of 4 of 10 labelled images"):
        pretrain(own, tiny(optimiser={"steps": 1}), distill=True)


def test_wrong_calls_are_one_sentence(own, tmp_path):
    for verb, arguments, sentence in (
        ("fit", of_a_run(Layout(tmp_path / "none"), tiny()), "no labels to train on"),
        ("evaluate", of_a_run(own, tiny(run="nothing")), "not the finished run of these settings and labels"),
    ):
        said = hvtrain(verb, *arguments)
        assert said.status == 2
        assert sentence in said.err
        assert said.err.count("\n") == 1


def test_a_batch_that_two_processes_cannot_share_ends_both_in_one_sentence(own):
    uneven = tiny(optimiser={"batch_images": 3, "accumulate": 3}, hardware={"devices": 2})
    done = subprocess.run(command(own, uneven), capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "cannot be shared by 2 processes" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_key_of_a_run_depends_on(layout):
    corpus = read_corpus(layout, tiny().data, distill=False)
    key = run_key(tiny(), corpus)
    assert run_key(tiny(run="other", hardware={"workers": 3}, evaluation={"max_masks": 1}), corpus) == key
    assert run_key(tiny(seed=1), corpus) != key
    assert run_key(tiny(), read_corpus(layout, tiny().data, distill=True)) != key
