"""The gallery of a run: what it lists, which images get a page, what it drops, and how it copes with many."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
from verbs import hvlabel

from hvlabel.cache.index import Entry, read_index, replace_entry
from hvlabel.config import WarnBelow
from hvlabel.inspect.picture import FILL, colour_of, overlay
from hvlabel.inspect.quality import LabelQuality
from hvlabel.inspect.report import _with_page, write_report
from hvlabel.inspect.thumbnails import SIDE_PX, Work, publish_all
from hvlabel.layout import Layout
from hvlabel.masks import Mask, MaskSet, encode

DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


@pytest.fixture
def layout(demo_run, tmp_path):
    """A copy of a finished run of two small demo images, to be spoilt."""
    return Layout(shutil.copytree(demo_run / "results", tmp_path / "results"))


def rows_of(layout):
    """The gallery's rows, each as a mapping."""
    data = json.loads(DATA.search(layout.report.read_text()).group(1))
    return [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]


def label(name, quality):
    return LabelQuality("d", name, 3, 0.2, quality, 0.5, 0.1, 0.0)


def test_pages_are_of_the_worst_and_of_some_others():
    labels = [label(f"i{k}", k / 100) for k in range(100)]  # worst first
    chosen = _with_page(labels, 10)
    assert len(chosen) == 10
    assert set(labels[:5]) <= chosen
    others = sorted(int(one.image[1:]) for one in chosen)[5:]
    assert others[0] < 25
    assert others[-1] > 75
    assert _with_page(labels[:3], 10) == set(labels[:3])
    assert _with_page(labels, 0) == set()


def test_it_lists_every_label_with_its_numbers(layout):
    assert write_report(layout, 1, WarnBelow()) == (2, 1)
    rows = rows_of(layout)
    assert sorted(row["image"] for row in rows) == ["vis31_00", "vis31_01"]
    assert rows[0]["quality"] <= rows[1]["quality"]
    entry = read_index(layout.index("labels", "d", "0000")).images[rows[0]["image"]]
    assert rows[0]["masks"] == entry.counts["masks"]
    assert rows[0]["coverage"] == pytest.approx(entry.counts["foreground_share"], abs=1e-4)
    assert rows[0]["camera"] == "31 bands, 400-700 nm"
    assert (
        rows[0]["sequence"]
        == read_index(layout.index("sequence", "d", "0000")).images[rows[0]["image"]].counts["masks"]
    )
    # the worst has the page
    assert rows[0]["page"] == f"pages/d/{rows[0]['image']}.html"
    assert rows[1]["page"] is None
    for row in rows:
        picture = cv2.imread(str(layout.report.parent / row["picture"]))
        assert picture.shape == (SIDE_PX, SIDE_PX, 3)
    text = layout.report.read_text()
    for what in ("Apache-2.0", "hvlabel report --results", "iou_threshold", "UTC"):
        assert what in text


def test_what_an_earlier_report_showed_goes(layout):
    write_report(layout, 2, WarnBelow())
    gone = layout.thumbnail("d", "gone")
    gone.write_bytes(b"of an image that left")
    write_report(layout, 0, WarnBelow())
    assert not gone.exists()
    assert list(layout.pages.glob("*/*")) == []
    assert len(list(layout.pictures.iterdir())) == 2


def test_failures_are_rows_too(layout):
    replace_entry(layout, "cubes", "d", "vis31_01", Entry("failed", "x", reason="a <b>bad</b> file", cause="input"))
    replace_entry(layout, "labels", "d", "vis31_01", Entry("skipped", "x", reason="no cube"))
    write_report(layout, 0, WarnBelow())
    done, failed = rows_of(layout)
    assert (done["image"], done["failure"]) == ("vis31_00", None)
    assert (failed["image"], failed["failure"], failed["masks"]) == ("vis31_01", "cubes: a <b>bad</b> file", None)
    assert "a &lt;b&gt;bad&lt;/b&gt; file" in layout.report.read_text()
    assert "<b>" not in layout.report.read_text()


def test_a_damaged_file_costs_its_picture_only(layout):
    layout.label("d", "vis31_00").write_text("{")
    layout.masks("rgb", "d", "vis31_01").write_text("{")  # leaves its page, with a sentence
    assert write_report(layout, 2, WarnBelow()) == (1, 1)
    assert [row["picture"] for row in rows_of(layout) if row["image"] == "vis31_00"] == [None]


def test_several_processes_make_the_same(layout, monkeypatch):
    todo = [Work("d", "vis31_01", with_page=False), Work("d", "vis31_00", with_page=True)]
    publish_all(layout, todo)
    before = {path: path.read_bytes() for path in layout.report.parent.rglob("*") if path.is_file()}
    assert len(before) == 3
    shutil.rmtree(layout.report.parent)
    monkeypatch.setattr("hvlabel.inspect.thumbnails.WORTH_PROCESSES_PAGES", 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    made = publish_all(layout, todo)
    assert [one.work for one in made] == todo
    for path, content in before.items():
        if path.suffix == ".jpg":
            assert path.read_bytes() == content


def test_the_overview_needs_no_other_file(layout):
    write_report(layout, 0, WarnBelow())
    text = layout.overview.read_text()
    assert "http" not in text
    assert "<script" not in text
    assert re.findall(r'src="(.{23})', text) == ["data:image/jpeg;base64,"] * 2
    assert "spectral-only recall@.5" in text


def test_the_verb_says_what_it_made(layout):
    assert hvlabel("report", "--results", layout.root).out == f"{layout.report}: 2 pictures, 2 pages\n"


def test_a_page_is_made_again_only_when_what_it_shows_has_changed(layout):
    write_report(layout, 4, WarnBelow())
    times = {path: path.stat().st_mtime_ns for path in layout.pages.glob("*/*.html")}
    assert times
    write_report(layout, 4, WarnBelow())
    assert {path: path.stat().st_mtime_ns for path in layout.pages.glob("*/*.html")} == times
    changed = min(times)
    changed.write_bytes(changed.read_bytes().replace(b'content="', b'content="0', 1).replace(b"made-from", b"made-of"))
    write_report(layout, 4, WarnBelow())
    assert [path for path, at in times.items() if path.stat().st_mtime_ns != at] == [changed]


def test_a_thumbnail_is_drawn_again_only_when_its_label_has_changed(layout):
    write_report(layout, 1, WarnBelow())
    times = {path: path.stat().st_mtime_ns for path in layout.pictures.iterdir()}
    assert write_report(layout, 0, WarnBelow()) == (2, 0)
    assert {path: path.stat().st_mtime_ns for path in layout.pictures.iterdir()} == times
    label = layout.label("d", "vis31_01")
    label.write_bytes(label.read_bytes())
    write_report(layout, 0, WarnBelow())
    changed = [path for path, at in times.items() if path.stat().st_mtime_ns != at]
    assert changed == [layout.thumbnail("d", "vis31_01")]
    label.write_text("{")
    assert write_report(layout, 0, WarnBelow()) == (1, 0)
    assert not changed[0].exists()  # of a damaged label nothing is shown


def test_masks_are_drawn_within_their_boxes_as_on_the_whole_picture():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    masks = [rng.random((40, 50)) > share for share in (0.4, 0.9, 0.999)] + [np.zeros((40, 50), bool)]
    plain = rgb.astype(np.float32)
    for k, mask in enumerate(masks):  # largest first already
        plain[mask] = (1 - FILL) * plain[mask] + FILL * colour_of(k)
    picture = plain.astype(np.uint8)
    for k, mask in enumerate(masks):
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, colour_of(k).tolist(), 1)
    np.testing.assert_array_equal(
        overlay(rgb, MaskSet(40, 50, tuple(Mask(encode(m), 1, "rgb", (0, 0)) for m in masks))), picture
    )
