"""Laws of all stages: what is valid is kept, and what has changed is made anew with what follows from it."""

import pytest
from stage_run import BAD, CASES, NAMES, OTHER_THING, descendants, write_box

from hvlabel.cache.receipt import read_attributes
from hvlabel.layout import STAGES


def test_every_stage_takes_part():
    assert tuple(CASES) == STAGES


def test_equal_keys_make_nothing_and_touch_nothing(run):
    before = run.contents()
    assert set(run.walk_all().values()) == {(0, 3, 0, 0)}
    assert run.contents() == before


def test_the_index_says_what_is_on_disk(run):
    for stage in STAGES:
        listed = {run.layout.root / entry.path for entry in run.index(stage).values()}
        folder = run.output(stage, NAMES[0]).parent
        outputs = {p for p in folder.iterdir() if p.suffix in (".json", ".zarr")}
        assert listed == outputs
    assert run.problems() == f"{3 * len(STAGES)} files checked, 0 missing or damaged\n"


@pytest.mark.parametrize("stage", STAGES)
def test_a_changed_setting_makes_that_stages_outputs_anew_and_no_others(run, stage):
    before, digests = run.contents(), run.digests(stage)
    assert run.walk(stage, f"{stage}.yaml") == (3, 0, 0, 0)
    of_the_stage = {p for name in NAMES for p in run.files(stage, name)}
    changed = {p for p, content in run.contents().items() if content != before[p]}
    assert changed <= of_the_stage
    assert changed
    assert not set(run.digests(stage).values()) & set(digests.values())
    anew = {s for s, counts in run.walk_all(f"{stage}.yaml").items() if counts != (0, 3, 0, 0)}
    assert anew <= descendants(stage)
    assert run.walk(stage) == (3, 0, 0, 0)  # back again
    assert run.digests(stage) == digests


def test_marks_that_cannot_be_read_cost_one_image_and_a_changed_mark_is_noticed(moved):
    write_box(moved.folder, "s0", OTHER_THING)
    (moved.folder / "boxes" / f"{BAD}.json").write_text('{"boxes": [[16')
    assert moved.walk("prompts") == (1, 1, 1, 0)
    assert f"{BAD}.json" in moved.index("prompts")[BAD].reason
    assert moved.walk("labels") == (1, 1, 0, 1)


def test_raw_files_that_were_only_moved_or_touched_make_nothing(moved):
    digests = moved.digests("cubes")
    for name in NAMES:
        (moved.folder / "raw" / f"{name}.npy").touch()
    assert set(moved.walk_all().values()) == {(0, 3, 0, 0)}
    assert moved.digests("cubes") == digests
    recorded = read_attributes(moved.output("cubes", BAD))["source"]["path"]
    assert recorded == str(moved.folder / "raw" / f"{BAD}.npy")  # where it lies now
