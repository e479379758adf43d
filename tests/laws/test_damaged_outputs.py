"""Laws of all stages: what is not whole is made anew or named, and a bad image costs only itself."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage_run import (
    BAD,
    BRANCHES,
    descendants,
)

from hvlabel.layout import STAGES, before


def spoilt(content, how):
    """A file's content, damaged."""
    return {"empty": b"", "cut": content[: len(content) // 2], "longer": content + b" x"}[how]


@pytest.mark.parametrize("how", ["gone", "empty", "cut", "longer"])
@pytest.mark.parametrize("stage", STAGES)
def test_an_output_that_is_not_whole_is_made_again_alone(run, stage, how):
    digests = run.digests(stage)
    for path in run.files(stage, BAD):
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(spoilt(path.read_bytes(), how))
        counts = run.walk(stage)
        if path == run.output("cubes", BAD) / "zarr.json":
            # a folder that no longer says that it is a cube might be anybody's: it is refused, and replaced by hand
            assert counts == (0, 2, 1, 0)
            assert str(path.parent) in run.index(stage)[BAD].reason
            shutil.rmtree(path.parent)
            counts = run.walk(stage)
        assert counts == (1, 2, 0, 0), path
        assert run.digests(stage) == digests
    assert run.problems().endswith(" 0 missing or damaged\n")


def without_seconds(document):
    """A mask file's content but for the time that making it took."""
    tree = json.loads(document)
    del tree["provenance"]["seconds"]
    return tree


@pytest.mark.parametrize("stage", STAGES)
@given(data=st.data())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_made_good_or_named(run, stage, data):
    digests = run.digests(stage)
    # what a Zarr group says of itself is not sealed: its receipt would have to hold its own checksum
    sealed = [p for p in run.files(stage, BAD) if p.parent.suffix != ".zarr"]
    # drawn as shares: how long a file is depends on the seconds that making it took
    share = st.floats(0, 1, exclude_max=True)
    path = sealed[int(data.draw(share, "file") * len(sealed))]
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[int(data.draw(share, "byte") * len(sound))] ^= 1 << data.draw(st.integers(0, 7), "bit")
    path.write_bytes(damaged)
    if run.walk(stage) == (1, 2, 0, 0):
        assert run.digests(stage) == digests
    elif run.output(stage, BAD).is_dir():
        assert f"{run.output(stage, BAD)}: " in run.problems()
        path.write_bytes(sound)
    else:  # only how long it took is not sealed
        assert without_seconds(damaged) == without_seconds(sound)


def spoil_input(run, stage):
    """Damage what a stage reads of one image, so that its size and key stay as they are."""
    if stage == "cubes":
        path = run.folder / "raw" / f"{BAD}.npy"
        path.write_bytes(path.read_bytes()[:-7])
    elif stage == "labels":
        path = run.output("rgb", BAD)
        path.write_bytes(path.read_bytes()[:-7])
    else:
        for path in run.files("cubes", BAD):
            if path.name != "zarr.json":
                path.write_bytes(bytes(byte ^ 0xFF for byte in path.read_bytes()))


@pytest.mark.parametrize("stage", STAGES)
def test_an_image_that_fails_costs_only_itself(moved, stage):
    run = moved
    spoil_input(run, stage)
    config = f"{stage}.yaml"
    assert run.walk(stage, config) == (2, 0, 1, 0)
    entries = run.index(stage)
    assert [name for name, entry in entries.items() if entry.status == "failed"] == [BAD]
    assert BAD in entries[BAD].reason
    assert "\n" not in entries[BAD].reason
    for later in sorted(descendants(stage), key=STAGES.index):
        made, kept, failed, left_out = run.walk(later, config)
        assert (made + kept, failed, left_out) == (2, 0, 1)
        assert run.index(later)[BAD].reason.endswith(entries[BAD].reason)
    if stage in ("labels", *before("labels", BRANCHES), "cubes"):
        assert not run.layout.label("d", BAD).exists()  # an older label would be handed on as if it were good
