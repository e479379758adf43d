"""What people see of a run while it goes on."""

import io
import os
import shutil
import time

import pytest

from hvlabel.inspect.live import LiveRun, StageOfRun, Watcher, between_lines, duration
from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest

BEGAN_S = 1_000_000.0


@pytest.fixture
def layout(demo_run, tmp_path):
    """A finished run of two images, all its files older than BEGAN_S."""
    shutil.copytree(demo_run / "results", tmp_path / "results")
    for path in (tmp_path / "results").rglob("*"):
        os.utime(path, (BEGAN_S - 100, BEGAN_S - 100))
    return Layout(tmp_path / "results")


def live(layout, *stages):
    planned = [("segment", [layout.index(stage, "d", "0000")]) for stage in stages]
    heads = [("adapt", [layout.root / f"head{k}" / "run.json"]) for k in range(2)]
    return LiveRun(layout, read_manifest(layout.manifest), [*planned, ("report", [layout.report]), *heads])


def start(run, layout, stage, now_s=BEGAN_S):
    run.start("segment", [layout.index(stage, "d", "0000")], now_s)


def test_only_what_the_run_does_has_a_line(layout):
    run = live(layout, "labels", "rgb")
    assert [(s.name, s.n_images) for s in run.stages] == [("rgb", 2), ("labels", 2)]


def test_images_count_one_by_one_and_those_of_earlier_runs_do_not(layout):
    run = live(layout, "rgb")
    [rgb] = run.stages
    layout.index("rgb", "d", "0000").unlink()  # as Snakemake does before a job
    start(run, layout, "rgb")
    run.look(BEGAN_S + 1)
    assert (rgb.n_done, rgb.ended_s) == (0, None)
    first, _ = read_manifest(layout.manifest)
    os.utime(layout.masks("rgb", "d", first.image_id), (BEGAN_S + 3, BEGAN_S + 3))
    run.look(BEGAN_S + 6)
    assert rgb.text(BEGAN_S + 6) == "rgb:       1 of 2 images, 10 a minute, 6 s left"


def test_a_shard_is_done_when_its_index_is_written_anew(layout):
    run = live(layout, "rgb")
    [rgb] = run.stages
    start(run, layout, "rgb")
    run.look(BEGAN_S + 1)
    assert rgb.n_done == 0  # the index that lies there is the old one
    index = layout.index("rgb", "d", "0000")
    os.utime(index, (BEGAN_S + 20, BEGAN_S + 20))
    run.look(BEGAN_S + 20)
    assert rgb.text(BEGAN_S + 50) == "rgb:       2 of 2 images, in 20 s"


def test_rules_without_shards_count_their_jobs(layout):
    run = live(layout, "labels")
    [adapt] = run.rules
    first = layout.root / "head0" / "run.json"
    run.start("adapt", [first], BEGAN_S)
    run.look(BEGAN_S + 1)
    assert adapt.text(BEGAN_S) == "adapt:     0 of 2 jobs"
    for k in range(2):
        path = layout.root / f"head{k}" / "run.json"
        path.parent.mkdir()
        path.write_text("{}")
        run.look(time.time())
    assert adapt.text(BEGAN_S).startswith("adapt:     2 of 2 jobs, in ")


def test_a_damaged_index_is_no_finished_shard(layout):
    run = live(layout, "rgb")
    layout.index("rgb", "d", "0000").write_text("{")
    start(run, layout, "rgb")
    run.look(BEGAN_S + 1)
    assert run.stages[0].ended_s is None


def test_failures_are_in_the_line():
    of_stage = StageOfRun("cubes", 9, n_done=9, n_failed=2, began_s=0.0, ended_s=4000.0)
    assert of_stage.text(5000.0) == "cubes:     9 of 9 images, 2 failed or left out, in 67 min"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (300, "5 min"), (7500, "2 h 5 min")])
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_a_file_gets_a_line_when_a_stage_ends(layout):
    run = live(layout, "rgb", "labels")
    out = io.StringIO()
    watcher = Watcher(run, out)
    start(run, layout, "rgb", time.time())
    layout.index("rgb", "d", "0000").touch()
    watcher.close()
    assert out.getvalue().startswith("rgb:       2 of 2 images, in ")
    assert out.getvalue().count("\n") == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_every_line_the_trainings_last_too_and_what_is_said_stands_above(layout, tmp_path):
    run = live(layout, "rgb", "labels")
    log = tmp_path / "fit.log"
    out = Terminal()
    watcher = Watcher(run, out, log)
    start(run, layout, "rgb", time.time())
    log.write_text("step 20 of 400: loss 17.0\nstep 40 of 400: loss 9.7, 6.4 min left\n")
    os.utime(log, (time.time() + 10, time.time() + 10))
    watcher.show()
    with between_lines(out):
        out.write("a warning\n")
    watcher.close()
    text = out.getvalue()
    assert text.index("rgb:       0 of 2 images") < text.index("a warning")
    assert "rgb:       0 of 2 images" in text[text.index("a warning") :]
    assert "training:  step 40 of 400: loss 9.7, 6.4 min left" in text
    assert "step 20" not in text
