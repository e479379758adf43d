"""Single flipped bits anywhere in a finished run: each is found, whatever it is in."""

import numpy as np
import pytest

from hvlabel.cache.left_overs import left_overs
from hvlabel.errors import ResultsError
from hvlabel.inspect.verify import verify_run

# what a run writes for the next stage; `report`, `locks` and logs are for people
FOLDERS = ("cubes", "masks", "labels", "teacher", "index")


def written(layout):
    """Every file that a later stage reads, and the manifest."""
    files = [p for folder in FOLDERS for p in (layout.root / folder).rglob("*") if p.is_file()]
    without_reader = {layout.problems, layout.checked}
    return sorted({*files, layout.manifest} - without_reader)


def is_found(layout):
    try:
        return bool(verify_run(layout, deep=True).problems)
    except ResultsError:
        return True


@pytest.mark.parametrize("n_flips", [60, pytest.param(200, marks=pytest.mark.slow)])
def test_every_flipped_bit_is_found(run, n_flips):
    assert not is_found(run.layout)
    random = np.random.default_rng(77)
    files = written(run.layout)
    kinds = {p.relative_to(run.layout.root).parts[0] for p in files}
    assert kinds == {*FOLDERS, "manifest.tsv"}
    missed = []
    for _ in range(n_flips):
        path = files[random.integers(len(files))]
        sound = path.read_bytes()
        if not sound:
            continue
        flipped = bytearray(sound)
        place, bit = int(random.integers(len(sound))), int(random.integers(8))
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        if not is_found(run.layout):
            missed.append((path, place, bit, bytes(flipped[max(0, place - 30) : place + 30])))
        path.write_bytes(sound)
    assert not missed
    assert not list(left_overs(run.layout.root))
