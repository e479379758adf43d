"""The log of a run: means of what was added, and rows that go on where a run was interrupted."""

import pytest

from hvtrain.engine.log import Log
from hvtrain.engine.run_folder import RunFiles, read_metrics


def add(log, loss, **values):
    log.add({"loss": loss, **values}, "a camera", n_samples=4, waited_s=0.5, took_s=2.0)


def test_a_row_holds_means_since_the_last_one(tmp_path):
    files = RunFiles(tmp_path)
    log = Log(files, ("loss", "iou"), 0, 4, active=True)
    add(log, 1.0)
    add(log, 3.0, iou=0.25)
    log.write(2)
    add(log, 7.0)
    log.write(3)
    log.close()
    first, second = read_metrics(files.metrics)
    assert (first["step"], first["camera"], float(first["loss"]), float(first["iou"])) == ("2", "a camera", 2.0, 0.25)
    assert (float(first["samples_per_s"]), float(first["waiting_share"])) == (2.0, 0.25)
    assert (float(second["loss"]), second["iou"]) == (7.0, "")


def test_a_resumed_log_drops_later_rows_and_takes_over_older_columns(tmp_path):
    files = RunFiles(tmp_path)
    files.metrics.write_text("step,loss,once\n10,2.5,1\n20,1.5,1\n30,0.5,1\n")
    log = Log(files, ("loss", "iou"), 20, 40, active=True)
    add(log, 1.0, iou=0.5)
    log.write(21)
    log.close()
    rows = read_metrics(files.metrics)
    assert [row["step"] for row in rows] == ["10", "20", "21"]
    assert [row["loss"] for row in rows] == ["2.5", "1.5", "1"]
    assert [row["iou"] for row in rows] == ["", "", "0.5"]
    assert "once" not in rows[0]


@pytest.mark.parametrize("active", [True, False])
def test_only_an_active_log_writes(tmp_path, active):
    log = Log(RunFiles(tmp_path), ("loss",), 0, 4, active=active)
    add(log, 1.0)
    log.write(1)
    log.draw()
    log.close()
    assert {path.name for path in tmp_path.iterdir()} == (
        {"metrics.csv", "curves.png", "tensorboard"} if active else set()
    )
