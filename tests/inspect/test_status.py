"""How far a run is: by its indexes, and image by image of shards that are being walked."""

import json
import os

import pytest
from verbs import hvlabel

from hvlabel.cache.index import Entry, StageIndex
from hvlabel.cache.publish import publish_bytes
from hvlabel.inspect.status import WINDOW_S, progress_of, table_of
from hvlabel.layout import Layout
from hvlabel.manifest import Image, Scan

NOW_S = 2_000_000_000.0
IMAGES = [Image("d", f"i{k}", f"{k // 4:04d}", f"i{k}.npy", "", "s") for k in range(8)]


def write(layout, stage, name, at_s):
    path = layout.output(stage, "d", name)
    publish_bytes(path, b"")
    os.utime(path, (at_s, at_s))


@pytest.fixture
def layout(tmp_path):
    """Cubes are done, one failed; of rgb the first shard is being walked by a run that began half an hour ago."""
    layout = Layout(tmp_path)
    publish_bytes(layout.manifest, Scan(tuple(IMAGES), ()).table().encode())
    for shard in ("0000", "0001"):
        names = [i.image_id for i in IMAGES if i.shard == shard]
        entries = {n: Entry("failed" if n == "i3" else "ok", f"cubes/d/{n}.zarr") for n in names}
        publish_bytes(layout.index("cubes", "d", shard), StageIndex("cubes", "d", shard, entries).to_json())
    publish_bytes(layout.at_work, b"{}")
    os.utime(layout.at_work, (NOW_S - 1800, NOW_S - 1800))
    write(layout, "rgb", "i0", NOW_S - 900)
    write(layout, "rgb", "i1", NOW_S - 60)
    write(layout, "rgb", "i2", NOW_S - 86_400)  # of an earlier run: it may be stale
    return layout


def test_done_failed_and_under_way(layout):
    progress = {p.stage: p for p in progress_of(layout, NOW_S)}
    assert (progress["cubes"].n_done, progress["cubes"].n_failed, progress["cubes"].hours_left) == (8, 1, 0)
    assert (progress["rgb"].n_done, progress["rgb"].n_images) == (2, 8)
    assert progress["rgb"].per_hour == pytest.approx(4)  # two in half an hour
    assert progress["rgb"].hours_left == pytest.approx(1.5)
    assert progress["labels"].hours_left == float("inf")
    assert "teacher" not in progress


def test_without_a_run_at_work_only_indexes_count(layout):
    layout.at_work.write_bytes(b"")
    rgb = next(p for p in progress_of(layout, NOW_S) if p.stage == "rgb")
    assert (rgb.n_done, rgb.per_hour) == (0, 2 * 3600 / WINDOW_S)


def test_a_branch_that_labels_were_made_without_is_not_waited_for(layout):
    index = StageIndex("labels", "d", "0000", {})
    publish_bytes(layout.index("labels", "d", "0000"), index.to_json())
    assert [p.stage for p in progress_of(layout, NOW_S)] == ["cubes", "rgb"]


def test_the_verb(layout):
    said = hvlabel("status", "--results", layout.root)
    assert said.status == 0
    assert "0 of 8 images are through; 1 failed or left out" in said.out
    as_json = json.loads(hvlabel("status", "--json", "--results", layout.root).out)
    assert as_json[0]["stage"] == "cubes"
    assert hvlabel("status", "--results", layout.root / "none").status == 2


def test_times_are_told_in_hours_and_minutes(layout):
    rows = {row[0]: row for row in table_of(progress_of(layout, NOW_S))}
    assert rows["rgb"][-1] == "1 h 30 min"
    assert rows["cubes"][-1] == ""
    assert rows["labels"][-1] == "unknown"
