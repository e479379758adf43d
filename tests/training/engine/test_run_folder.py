"""Whose a folder is: nothing of another run is overwritten."""

import subprocess
import sys

import pytest
from filelock import FileLock

from hvlabel.errors import ResultsError
from hvlabel.models.weights import file_sha256
from hvtrain.engine.run_folder import RunFiles, is_complete, move_aside, only_one, pretty, read_identity, read_metrics


def test_an_empty_folder_is_no_run(tmp_path, capsys):
    files = RunFiles(tmp_path / "first")
    files.folder.mkdir()  # as a workflow engine makes it before the job
    (files.folder / "events").mkdir()
    move_aside(files, "a" * 64)
    assert [p.name for p in tmp_path.iterdir()] == ["first"]
    assert capsys.readouterr().err == ""
    files.checkpoint.write_bytes(b"of a run whose identity is lost")
    move_aside(files, "a" * 64)
    assert [p.name for p in tmp_path.iterdir()] == ["first-unknown"]


def test_a_run_is_complete_with_its_key_and_the_weights_that_it_names(tmp_path):
    files = RunFiles(tmp_path)
    assert not is_complete(files, "key")
    files.identity.write_bytes(pretty({"key": "key", "facts": None}))
    assert not is_complete(files, "key")
    files.weights.write_bytes(b"weights")
    files.identity.write_bytes(pretty({"key": "key", "facts": {"weights_sha256": file_sha256(files.weights)}}))
    assert is_complete(files, "key")
    assert not is_complete(files, "other")
    files.weights.write_bytes(b"others")
    assert not is_complete(files, "key")


def test_a_damaged_identity_is_one_sentence(tmp_path):
    files = RunFiles(tmp_path)
    files.identity.write_bytes(b"{")
    with pytest.raises(ResultsError, match=r"identity.json: cannot be read .* move the folder away"):
        read_identity(files)


def test_runs_moved_aside_do_not_meet(tmp_path):
    for _ in range(3):
        files = RunFiles(tmp_path / "run")
        files.folder.mkdir()
        files.identity.write_bytes(pretty({"key": "b" * 64, "facts": None}))
        move_aside(files, "a" * 64)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run-bbbbbbbb", "run-bbbbbbbb-2", "run-bbbbbbbb-3"]


def test_the_lock_is_asked_for_by_the_first_process_and_all_learn_of_it(tmp_path):
    files = RunFiles(tmp_path / "run")
    with only_one(files, first=True, agree=lambda holder: holder), FileLock(tmp_path / ".other.lock"):
        pass
    with (
        pytest.raises(ResultsError, match=r"another process is training a run of this name \(process 7\)"),
        only_one(files, first=False, agree=lambda _: "process 7"),
    ):
        pass


def test_who_holds_the_lock_is_named_and_one_that_was_killed_stands_in_nobodys_way(tmp_path):
    files = RunFiles(tmp_path / "run")
    program = (
        "import sys, time, pathlib\n"
        "from hvtrain.engine.run_folder import RunFiles, only_one\n"
        "with only_one(RunFiles(pathlib.Path(sys.argv[1])), first=True, agree=lambda holder: holder):\n"
        "    print('at work', flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(files.folder)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "at work\n"
        for _ in range(2):  # the first refused one does not wipe the name out
            with (
                pytest.raises(ResultsError, match=rf"process {other.pid}, since .*wait for it, stop it"),
                only_one(files, first=True, agree=lambda holder: holder),
            ):
                pass
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    with only_one(files, first=True, agree=lambda holder: holder):
        pass
    assert not list(tmp_path.glob(".run.holder"))


def test_no_metrics_are_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.csv") == []
