"""One run at a time on a results folder; a killed one stands in nobody's way, wherever the next is started."""

import errno
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from verbs import ended, hvlabel, snakemake, starting

from hvlabel.cache import at_work
from hvlabel.errors import BusyError, ResultsError
from hvlabel.layout import Layout

HOLDS = """
import sys, time
from pathlib import Path
from hvlabel.cache.at_work import take
from hvlabel.layout import Layout
print(take(Layout(Path(sys.argv[1]))), flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "results")


@pytest.fixture(autouse=True)
def _nobody_at_work(tmp_path, monkeypatch):
    """What a test takes is not held on; Snakemake's locks are sought in its own folder."""
    monkeypatch.chdir(tmp_path)
    yield
    for path in list(at_work._held):
        at_work._release(path)


def holding(layout, seconds=60.0, cwd=None):
    """Another process that is at work on a results folder."""
    command = [sys.executable, "-c", HOLDS, str(layout.root), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd)
    assert process.stdout.readline()
    process.stdout.close()
    return process


def killed(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def written(layout, **changes):
    """A holder of which nothing is left but its name."""
    holder = at_work.asdict(at_work.Holder.this()) | changes
    layout.at_work.parent.mkdir(parents=True)
    layout.at_work.write_text(json.dumps(holder))


def snakemake_lock(folder, name):
    path = folder / ".snakemake/locks/0.output.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{name}\n")
    return path


def test_the_second_is_told_who_is_at_work(layout):
    process = holding(layout)
    try:
        for refused in (at_work.take, at_work.unlock):
            with pytest.raises(BusyError) as error:
                refused(layout)
            assert str(error.value).startswith(
                f"{layout.root}: a run is at work here: host {os.uname().nodename}, process {process.pid}, since 20"
            )
            assert f"started in {Path.cwd()}; wait until it ends, or stop it first" in str(error.value)
        said = hvlabel("unlock", "--results", layout.root)
        assert (said.status, said.err.count("\n")) == (2, 1)
    finally:
        killed(process)


def test_a_run_that_ended_leaves_nothing(layout):
    assert holding(layout, 0).wait() == 0
    assert layout.at_work.read_bytes() == b""
    assert at_work.take(layout) is None
    assert at_work.take(layout) is None  # the same process, again


def test_a_killed_run_is_taken_over_with_one_sentence(layout, tmp_path):
    process = holding(layout)
    killed(process)
    lock = snakemake_lock(tmp_path, layout.index("cubes", "d", "0000"))
    left = at_work.take(layout)
    assert left.startswith(
        f"{layout.root}: an earlier run (host {os.uname().nodename}, process {process.pid}, since 20"
    )
    assert left.endswith("was killed; its 1 locks of Snakemake are removed")
    assert not lock.exists()


def test_children_of_a_killed_run_do_not_count(layout):
    code = HOLDS.replace("time.sleep", "import subprocess; subprocess.Popen(['sleep', '30']); time.sleep")
    process = subprocess.Popen([sys.executable, "-c", code, str(layout.root), "60"], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    time.sleep(0.5)
    process.kill()
    process.wait()
    assert "was killed" in at_work.take(layout)


@pytest.mark.parametrize("name", ["results/index/cubes/d/0000.json", "./results/x", "sub/../results/x"])
def test_locks_name_files_as_the_run_called_them(layout, tmp_path, name):
    layout.root.mkdir()
    lock = snakemake_lock(tmp_path, name)
    assert "its 1 locks" in at_work.take(layout)
    assert not lock.exists()


@pytest.mark.parametrize("name", ["results-other/x", "/elsewhere/results/x", "", "results"])
def test_locks_of_other_runs_stay(layout, tmp_path, name):
    lock = snakemake_lock(tmp_path, name)
    assert at_work.take(layout) is None
    assert lock.exists()


def test_a_run_of_another_machine_is_left_alone_until_somebody_says_so(layout, tmp_path):
    written(layout, host="node7", boot="another", pid=12)
    lock = snakemake_lock(tmp_path, "results/x")
    with pytest.raises(
        BusyError, match=r"at work here, or was killed: host node7, process 12, .*if it has ended, run `make unlock`"
    ):
        at_work.take(layout)
    assert lock.exists()
    said = hvlabel("unlock", "--results", layout.root)
    assert said.status == 0
    assert "an earlier run (host node7, process 12" in said.out
    assert not lock.exists()
    assert at_work.take(layout) is None
    assert "nothing to unlock" in hvlabel("unlock", "--results", tmp_path / "none").out


@pytest.mark.parametrize("changes", [{"boot": "another"}, {"host": "another container"}])
def test_a_restarted_machine_and_another_container_of_it_are_this_machine(layout, changes):
    written(layout, pid=12, **changes)
    if not at_work._boot_id() and "host" in changes:
        pytest.skip("this kernel does not name its start")
    assert "was killed" in at_work.take(layout)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff", b'{"host": 1}', b"null"])
def test_what_a_crash_left_half_written_is_nobody(layout, content):
    layout.at_work.parent.mkdir(parents=True)
    layout.at_work.write_bytes(content)
    assert at_work.take(layout) is None


@pytest.mark.parametrize(("started", "lives"), [(None, True), (1, False)])
def test_where_a_disk_cannot_lock_the_process_is_looked_for(layout, monkeypatch, started, lives):
    def flock(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    written(layout, **({} if started is None else {"started": started}))
    if lives:
        with pytest.raises(BusyError, match=f"process {os.getpid()}"):
            at_work.take(layout)
    else:
        assert "was killed" in at_work.take(layout)


def test_a_folder_that_cannot_be_written_is_one_sentence(layout):
    layout.root.mkdir()
    (layout.root / "locks").write_text("a file")
    with pytest.raises(ResultsError, match="cannot make the folder"):
        at_work.take(layout)


def test_a_full_disk_is_one_sentence_and_holds_nothing(layout, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(ResultsError, match=r"run.json: cannot write \(No space left on device\)"):
            at_work.take(layout)
    assert at_work.take(layout) is None


# ---------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture
def folder(tmp_path):
    """A configuration of some small images; results lie beside it, wherever a run is started."""
    (tmp_path / "raw").mkdir()
    for k in range(2):
        values = np.random.default_rng(k).integers(0, 4000, (40, 40, 9), dtype=np.uint16)
        np.save(tmp_path / f"raw/{k}.npy", values)
    descriptor = {"files": "*.npy", "container": "npy", "wavelengths_nm": {"start_nm": 450, "stop_nm": 650, "count": 9}}
    regions = {"backend": "regions"}
    tree = {
        "results": str(tmp_path / "results"),
        "datasets": {"mine": {"root": str(tmp_path / "raw"), "descriptor": descriptor}},
        **dict.fromkeys(("rgb", "sequence", "material"), regions),
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    return tmp_path


def run_of(folder):
    return ("--configfile", folder / "c.yaml", "--", "pseudolabels")


def until(condition, process):
    """Wait for what a run does."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def labels(folder):
    """What a run has made, without what differs between two runs of the same."""
    made = {}
    for path in sorted((folder / "results/labels").rglob("*.json")):
        document = json.loads(path.read_bytes())
        for entry in ("seconds", "batches"):
            document["provenance"].pop(entry, None)
        made[path.name] = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return made


def test_a_run_that_was_killed_goes_on_when_it_is_started_again(folder):
    here = folder / "here"
    with starting(here, *run_of(folder)) as process:
        until(lambda: list((folder / "results/index/cubes").rglob("*.json")), process)
        process.kill()
        process.communicate()
    assert list((here / ".snakemake/locks").glob("*.lock"))
    said = snakemake(here, *run_of(folder))
    assert said.status == 0, said.text
    assert "an earlier run (host" in said.err
    assert len(labels(folder)) == 2
    assert "Nothing to be done" in snakemake(here, *run_of(folder)).text


def test_a_second_run_stops_with_a_sentence_and_the_first_one_ends_well(folder):
    with starting(folder / "here", *run_of(folder)) as first:
        until(lambda: Layout(folder / "results").at_work.exists(), first)
        dry, second = (snakemake(folder / "there", *how, *run_of(folder)) for how in (("-n",), ()))
        unlocked = snakemake(folder / "here", "--unlock", *run_of(folder))
        said = ended(first)
    assert said.status == 0, said.text
    assert len(labels(folder)) == 2
    for refused in (second, unlocked):
        assert refused.status != 0
        assert f"{folder}/results: a run is at work here: host" in refused.err
        assert f"process {first.pid}, since" in refused.err
        assert "Traceback" not in refused.text
    assert dry.status == 0, dry.text


@pytest.mark.slow
def test_two_runs_started_together_make_the_same_as_one(folder):
    import shutil

    one = snakemake(folder / "here", *run_of(folder))
    assert one.status == 0, one.text
    alone = labels(folder)
    for _ in range(10):
        shutil.rmtree(folder / "results")
        with starting(folder / "here", *run_of(folder)) as first, starting(folder / "there", *run_of(folder)) as second:
            both = [ended(first), ended(second)]
        assert 0 in [said.status for said in both], "\n=====\n".join(said.text for said in both)
        for said in both:
            assert said.status == 0 or "a run is at work here" in said.err, said.text
            assert "Traceback" not in said.text
        assert labels(folder) == alone
