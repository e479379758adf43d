"""The cache law on a small stage: what is valid is kept, what is not is remade, one bad image stops nothing."""

import os
import subprocess
import sys
import threading
import time

import pytest

from hvlabel.cache.index import Entry, StageIndex, drop_untrue, read_index
from hvlabel.cache.key import cache_key
from hvlabel.cache.publish import publish_bytes, publish_folder, temporary_beside
from hvlabel.cache.receipt import damage
from hvlabel.errors import RawFileError, ResultsError
from hvlabel.layout import Layout
from hvlabel.manifest import Image, Scan
from hvlabel.stages.shard import run_shard

IMAGES = [Image("d", f"i{k}", "0000", f"/raw/i{k}", "", "s") for k in range(4)]


class CopyStage:
    """Writes each image's name and key; some images are bad."""

    name = "rgb"

    def __init__(self, layout, setting="1", bad=(), broken=(), without=()):
        self.layout, self.setting, self.bad, self.broken, self.without = layout, setting, bad, broken, without
        self.made = []
        self.discarded = []

    def discard(self, image):
        self.discarded.append(image.image_id)

    def blocked(self, image):
        return "no cube: reason" if image.image_id in self.without else None

    def key(self, image):
        return cache_key("rgb", [image.raw], self.setting, None)

    def valid(self, image, key):
        path = self.layout.masks("rgb", "d", image.image_id)
        return self._entry(image, key) if path.exists() and path.read_text() == key else None

    def make(self, image, key):
        if image.image_id in self.bad:
            raise RawFileError(f"{image.raw}: bad; mend it")
        if image.image_id in self.broken:
            raise ZeroDivisionError("oops")
        self.made.append(image.image_id)
        publish_bytes(self.layout.masks("rgb", "d", image.image_id), key.encode())
        return self._entry(image, key)

    def _entry(self, image, key):
        return Entry(
            "ok",
            str(self.layout.masks("rgb", "d", image.image_id).relative_to(self.layout.root)),
            key,
            counts={"masks": 1},
        )


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "results")


def walk(stage, images=IMAGES):
    stage.layout.manifest.parent.mkdir(parents=True, exist_ok=True)
    stage.layout.manifest.write_text(Scan(tuple(images), ()).table())
    return run_shard(stage, images, stage.layout, "d", "0000")


def test_everything_is_made_once_and_kept_after(layout):
    first = CopyStage(layout)
    index = walk(first)
    assert first.made == ["i0", "i1", "i2", "i3"]
    assert read_index(layout.index("rgb", "d", "0000")) == index
    again = CopyStage(layout)
    walk(again)
    assert again.made == []


def test_a_changed_setting_a_deleted_and_a_damaged_file_are_remade(layout):
    walk(CopyStage(layout))
    layout.masks("rgb", "d", "i1").unlink()
    layout.masks("rgb", "d", "i2").write_text("damaged")
    mended = CopyStage(layout)
    walk(mended)
    assert mended.made == ["i1", "i2"]
    changed = CopyStage(layout, setting="2")
    walk(changed)
    assert len(changed.made) == 4


def test_a_bad_image_is_recorded_and_the_others_are_finished(layout, capsys):
    stage = CopyStage(layout, bad=["i1"], broken=["i2"], without=["i3"])
    index = walk(stage)
    assert stage.discarded == ["i1", "i2", "i3"]
    assert index.images["i0"].made
    assert [e.status for e in index.images.values()] == ["ok", "failed", "failed", "skipped"]
    assert index.images["i1"].reason == "/raw/i1: bad; mend it"
    assert "unexpected ZeroDivisionError (oops)" in index.images["i2"].reason
    assert index.images["i3"].reason == "no cube: reason"
    err = capsys.readouterr().err
    assert "failed: /raw/i1: bad; mend it" in err
    assert "Traceback" in err  # of the bug, not of the bad image
    assert err.count("Traceback") == 1


def test_progress_goes_to_the_log_with_rate_and_eta(layout, capsys):
    walk(CopyStage(layout))
    assert "rgb d/0000: 100%" in capsys.readouterr().err


def test_a_second_process_waits_for_the_shard(layout, capsys):
    holding, release = threading.Event(), threading.Event()

    class Slow(CopyStage):
        def make(self, image, key):
            holding.set()
            release.wait(10)
            return super().make(image, key)

    slow, late = Slow(layout), CopyStage(layout)
    first = threading.Thread(target=walk, args=(slow,))
    first.start()
    holding.wait(10)
    second = threading.Thread(target=walk, args=(late,))
    second.start()
    time.sleep(1.5)
    release.set()
    first.join()
    second.join()
    assert slow.made == ["i0", "i1", "i2", "i3"]
    assert late.made == []  # found everything valid
    assert "another process works on this shard; waiting" in capsys.readouterr().err


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_shard import CopyStage, IMAGES, walk
from hvlabel.layout import Layout
class Dies(CopyStage):
    def make(self, image, key):
        if image.image_id == "i2":
            (self.layout.masks("rgb", "d", "i2").parent / ".i2.json.1.tmp").write_text("half")
            os.kill(os.getpid(), 9)
        return super().make(image, key)
walk(Dies(Layout(Path({root!r}))))
"""


def test_a_killed_job_leaves_whole_files_and_the_next_run_makes_the_rest(layout):
    code = KILLED.format(tests=os.path.dirname(__file__), root=str(layout.root))
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -9
    assert not layout.index("rgb", "d", "0000").exists()
    left = layout.masks("rgb", "d", "i2").parent / ".i2.json.1.tmp"
    assert left.exists()
    after = CopyStage(layout)
    walk(after)
    assert after.made == ["i2", "i3"]
    assert not left.exists()


def test_an_index_that_is_not_true_goes_with_all_that_builds_on_it(layout):
    walk(CopyStage(layout))
    entries = {
        "cubes": {"i0": Entry("ok", "cubes/d/i0.zarr")},
        "sequence": {},
        "material": {},
        "labels": {"i0": Entry("failed", "labels/d/i0.json")},
    }
    layout.cube("d", "i0").mkdir(parents=True)
    for stage, images in entries.items():
        publish_bytes(layout.index(stage, "d", "0000"), StageIndex(stage, "d", "0000", images).to_json())
    index = {stage: layout.index(stage, "d", "0000") for stage in (*entries, "rgb")}
    assert drop_untrue(layout) == {}

    layout.masks("rgb", "d", "i3").unlink()
    assert drop_untrue(layout, dry=True).keys() == {index["rgb"], index["labels"]}
    assert index["rgb"].exists()
    assert drop_untrue(layout)[index["rgb"]] == "1 missing, e.g. masks/rgb/d/i3.json"
    assert [stage for stage, path in index.items() if path.exists()] == ["cubes", "sequence", "material"]

    walk(CopyStage(layout))
    layout.cube("d", "i0").rmdir()
    assert drop_untrue(layout).keys() == {index[s] for s in ("cubes", "rgb", "sequence", "material")}
    walk(CopyStage(layout))  # its cubes' index is missing now
    assert drop_untrue(layout).keys() == {index["rgb"]}
    index["cubes"].write_text("{")
    assert "damaged stage index" in drop_untrue(layout)[index["cubes"]]


def test_each_index_is_read_once_however_many_build_on_it(layout, monkeypatch):
    walk(CopyStage(layout))
    for stage in ("cubes", "sequence", "material", "labels"):
        publish_bytes(layout.index(stage, "d", "0000"), StageIndex(stage, "d", "0000", {}).to_json())
    read = []

    def counted(path):
        read.append(path)
        return read_index(path)

    monkeypatch.setattr("hvlabel.cache.index.read_index", counted)
    assert drop_untrue(layout) == {}
    assert layout.index("cubes", "d", "0000") in read
    assert len(read) == len(set(read))


def test_a_results_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(ResultsError, match="cannot make the folder"):
        run_shard(CopyStage(Layout(tmp_path / "results")), IMAGES, Layout(tmp_path / "results"), "d", "0000")
    with pytest.raises(ResultsError, match="cannot read the stage index"):
        read_index(tmp_path / "none.json")


def test_publishing_replaces_whole_folders(tmp_path):
    target = tmp_path / "a" / "x.zarr"
    for content in ("one", "two"):
        temporary = temporary_beside(target)
        temporary.mkdir()
        (temporary / content).write_text(content)
        publish_folder(temporary, target)
        assert [p.name for p in target.iterdir()] == [content]
    assert [p.name for p in target.parent.iterdir()] == ["x.zarr"]


def test_keys_depend_on_everything():
    base = ("rgb", ["a", "b"], "{}", None)
    keys = {
        cache_key(*base),
        cache_key("x", *base[1:]),
        cache_key("rgb", ["b", "a"], "{}", None),
        cache_key("rgb", ["ab"], "{}", None),
        cache_key(*base[:3], "w"),
    }
    assert len(keys) == 5


def test_a_folder_without_receipt_is_damaged(tmp_path):
    assert damage(tmp_path / "none", deep=False) == "missing or unreadable"
    (tmp_path / "zarr.json").write_text('{"attributes": {}}')
    assert damage(tmp_path, deep=False) == "unfinished: no receipt"
