"""The table of labels: what it takes from the indexes, its order, its warnings, its files."""

import numpy as np
import pandas as pd
import pytest

from hvlabel.cache.index import Entry, StageIndex
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import WarnBelow
from hvlabel.inspect.quality import by_dataset, label_qualities, publish_qualities, warnings_of, worst
from hvlabel.layout import Layout
from hvlabel.manifest import Image, Scan

WHOLE = {"agreement": 0.5, "cut": 0.25, "unknown": 0.0}


def entry(name, **counts):
    return name, Entry("ok", f"labels/d/{name}.json", counts={"suppressed": 3, **counts})


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path)
    names = ("good", "empty", "poor", "old", "broken")
    images = tuple(Image("d", name, "0000", f"{name}.npy", "", "") for name in names)
    publish_bytes(layout.manifest, Scan(images, ()).table().encode())
    entries = dict(
        [
            entry("good", masks=9, foreground_share=0.4, quality=0.8, **WHOLE),
            entry("empty", masks=0, foreground_share=0.0),
            entry("poor", masks=4, foreground_share=0.01, quality=0.25, **WHOLE),
            entry("old", masks=5, foreground_share=0.3, agreement=0.4),  # of a run that asked for no quality
            ("broken", Entry("failed", "labels/d/broken.json", reason="no cube")),
        ]
    )
    publish_bytes(layout.index("labels", "d", "0000"), StageIndex("labels", "d", "0000", entries).to_json())
    return layout


def test_the_worst_come_first_and_failures_are_no_labels(layout):
    assert [label.image for label in label_qualities(layout)] == ["empty", "poor", "old", "good"]


def test_files_hold_every_label(layout):
    labels = label_qualities(layout)
    publish_qualities(layout, labels)
    table = pd.read_parquet(layout.quality.with_suffix(".parquet"))
    assert table["image"].tolist() == [label.image for label in labels]
    assert table["masks"].tolist() == [0, 4, 5, 9]
    np.testing.assert_allclose(table["quality"], [np.nan, 0.25, np.nan, 0.8])
    as_text = pd.read_csv(layout.quality, sep="\t")
    pd.testing.assert_frame_equal(as_text, table, check_dtype=False)


def test_tables_leave_out_what_nobody_knows(layout):
    labels = label_qualities(layout)
    header, row = by_dataset(labels)
    assert dict(zip(header, row, strict=True))["expected IoU"] == "0.53"  # the mean of .8 and .25
    assert worst(labels, 1)[1:] == [["d/empty", "0", "0.00", "", "", "", ""]]


def test_a_warning_names_limit_and_lowest_label(layout):
    labels = label_qualities(layout)
    assert warnings_of(labels, WarnBelow(masks=1, coverage=0.02, quality=0.3)) == [
        "d: masks of 1 of 4 labels is below 1 (run.warn_below.masks), lowest 0 in empty",
        "d: coverage of 2 of 4 labels is below 0.02 (run.warn_below.coverage), lowest 0 in empty",
        "d: quality of 1 of 4 labels is below 0.3 (run.warn_below.quality), lowest 0.25 in poor",
    ]
    assert not warnings_of(labels, WarnBelow(masks=0, coverage=0, quality=0))
