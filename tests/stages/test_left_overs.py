"""What a killed process leaves goes with the next run or walk; what a living one writes stays."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from hvlabel.cache.left_overs import FOREIGN_AGE_S, left_overs, sweep
from hvlabel.cache.publish import private_name, temporary_beside
from hvlabel.layout import Layout
from tests.stages.test_shard import CopyStage, walk


@pytest.fixture
def dead_pid():
    """A number that no process has."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def of_pid(path, pid):
    """The private name that another process would have taken."""
    return path.with_name(private_name(path.name, "tmp").replace(f"-{os.getpid()}.", f"-{pid}."))


@pytest.mark.parametrize(
    "folder", ["", "labels/d", "masks/rgb/d", "cubes/d", "index/labels/d", "report/pictures", "pretrain"]
)
def test_a_dead_process_leaves_nothing_in_any_folder(tmp_path, dead_pid, folder):
    where = tmp_path / folder
    where.mkdir(parents=True, exist_ok=True)
    file, group = of_pid(where / "a.json", dead_pid), of_pid(where / "a.zarr", dead_pid)
    file.write_text("half")
    (group / "cube").mkdir(parents=True)
    old_name = where / f".a.png.{dead_pid}.tmp"  # of versions that told no host
    old_name.write_text("half")
    mine = temporary_beside(where / "b.json")
    mine.write_text("at work")
    (where / ".hidden").write_text("a user's")
    assert set(left_overs(tmp_path)) == {file, group, old_name, mine}
    assert set(sweep(tmp_path)) == {file, group, old_name}
    assert {p.name for p in where.iterdir()} >= {mine.name, ".hidden"}


def test_another_machines_are_left_for_a_day(tmp_path):
    path = tmp_path / ".a.json.elsewhere-17.tmp"
    path.write_text("half")
    assert sweep(tmp_path) == []
    then = time.time() - FOREIGN_AGE_S - 60
    os.utime(path, (then, then))
    assert sweep(tmp_path) == [path]


def test_what_lies_in_cubes_and_behind_links_is_not_touched(tmp_path, dead_pid):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    kept = [of_pid(elsewhere / "a", dead_pid), of_pid(tmp_path / "results/cubes/d/i.zarr/x", dead_pid)]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "results/link").symlink_to(elsewhere)
    assert sweep(tmp_path / "results") == []
    assert all(path.exists() for path in kept)


class Terminated(CopyStage):
    """A stage that its scheduler ends in the middle of an image."""

    def make(self, image, key):
        if image.image_id in self.bad:
            half = temporary_beside(self.layout.masks("rgb", "d", image.image_id))
            try:
                half.write_text("half")
                signal.raise_signal(signal.SIGTERM)
            finally:
                half.unlink()
        return super().make(image, key)


def test_a_time_limit_drops_the_image_at_hand_and_keeps_all_others(tmp_path, capsys):
    layout = Layout(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        walk(Terminated(layout, bad=["i2"]))
    assert stopped.value.code == 128 + signal.SIGTERM
    assert "rgb d/0000: terminated; what is made is kept, the next run goes on" in capsys.readouterr().err
    assert not layout.index("rgb", "d", "0000").exists()
    assert not list(left_overs(tmp_path))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = CopyStage(layout)
    walk(resumed)
    assert resumed.made == ["i2", "i3"]


def test_a_walk_in_a_thread_leaves_signals_alone(tmp_path):
    index = []
    thread = threading.Thread(target=lambda: index.append(walk(CopyStage(Layout(tmp_path)))))
    thread.start()
    thread.join()
    assert len(index[0].images) == 4
