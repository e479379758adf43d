"""Laws of all stages: what is valid is kept, what is not is made anew, and a bad image costs only itself."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import raw_files
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verbs import hvlabel

from hvlabel.cache.index import read_index
from hvlabel.cache.receipt import read_attributes
from hvlabel.layout import STAGES, Layout, before

SIDE, N_BANDS = 36, 9
NAMES = ("s0", "s1", "s2")
SHARD = "d/0000"
BRANCHES = ("rgb", "sequence", "material", "regions", "prompts")
BAD = "s1"  # the image that fails


@dataclass(frozen=True)
class Case:
    """A stage as a job runs it.

    verb    : of hvlabel
    changed : settings, by group, with which every output is another one
    """

    verb: tuple[str, ...]
    changed: dict[str, dict]


CASES = {
    "cubes": Case(("convert",), {"cube": {"rgb": "triplet"}}),
    "rgb": Case(("segment", "rgb"), {"rgb": {"regions": {"sigma_px": 1.5}}}),
    "sequence": Case(("segment", "sequence"), {"sequence": {"max_frames": 3}}),
    "material": Case(("segment", "material"), {"material": {"n_components": 2}}),
    "regions": Case(("segment", "regions"), {"regions": {"max_masks": 3}}),
    "prompts": Case(("segment", "prompts"), {"prompts": {"n_composites": 1}}),
    "teacher": Case(("teacher",), {"teacher": {"tile_px": 32}}),
    "labels": Case(("fuse",), {"fusion": {"min_area_px": 60}}),
}


def scene(seed):
    """(C, H, W) uint16 with two rectangles."""
    rng = np.random.default_rng(seed)
    cube = np.full((N_BANDS, SIDE, SIDE), 1000.0)
    cube[:, 4:18, 5:20] = 2500
    cube[4:, 21:33, 16:32] = 1800
    return (cube + rng.normal(0, 15, cube.shape)).astype("u2")


def write_raw_files(folder):
    """Three images, and a box on each."""
    for k, name in enumerate(NAMES):
        raw_files.npy(folder / "raw" / f"{name}.npy", scene(k).transpose(1, 2, 0))
        (folder / "boxes" / f"{name}.json").write_text('{"boxes": [[5, 4, 20, 18]]}')


def configuration(folder, repository):
    """The tree: regions wherever they will do, a small untrained network where one is needed."""
    network = {"config": str(repository / "resources/models/sam2_nano.yaml"), "checkpoint": "random:1"}
    descriptor = {
        "container": "npy",
        "wavelengths_nm": {"start_nm": 450, "stop_nm": 650, "count": N_BANDS},
        "prompts": "../boxes/{stem}.json",
    }
    return {
        "results": str(folder / "results"),
        "datasets": {"d": {"root": str(folder / "raw"), "glob": "*.npy", "descriptor": descriptor}},
        "rgb": {"backend": "regions"},
        "sequence": {"backend": "regions", "max_frames": 2},
        "material": {"backend": "regions"},
        "regions": {"backend": "regions"},
        "prompts": {"backend": "sam2", "sam2": network, "n_composites": 0},
        "teacher": {"backend": "sam2", "sam2": network},
        "fusion": {"branches": list(BRANCHES)},
    }


class Run:
    """A results folder and its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.layout = folder, Layout(folder / "results")

    def write_config(self, name: str, changes: dict[str, dict]) -> None:
        """A configuration file with some groups changed."""
        tree = yaml.safe_load((self.folder / "c.yaml").read_text())
        for group, values in changes.items():
            tree[group] = tree.get(group, {}) | values
        (self.folder / name).write_text(yaml.safe_dump(tree))

    def walk(self, stage: str, config: str = "c.yaml") -> tuple[int, ...]:
        """One job: how many images were made, kept, failed and left out."""
        where = ("--config", self.folder / config, "--results", self.layout.root)
        said = hvlabel(*CASES[stage].verb, "--shard", SHARD, *where)
        assert said.status == 0, said.err
        return tuple(map(int, re.findall(r"(\d+) (?:made|kept|failed|left out)", said.out)))

    def walk_all(self, config: str = "c.yaml") -> dict[str, tuple[int, ...]]:
        """All jobs in their order."""
        return {stage: self.walk(stage, config) for stage in STAGES}

    def index(self, stage: str):
        """Entries of a stage by image."""
        return read_index(self.layout.index(stage, "d", "0000")).images

    def digests(self, stage: str) -> dict[str, str]:
        """What the index calls each image's output."""
        return {name: entry.digest for name, entry in self.index(stage).items() if entry.status == "ok"}

    def output(self, stage: str, name: str) -> Path:
        """Where an image's output lies."""
        return self.layout.output(stage, "d", name)

    def files(self, stage: str, name: str) -> list[Path]:
        """Every file of an image's output; of labels also the picture beside it."""
        output = self.output(stage, name)
        if output.is_dir():
            return sorted(p for p in output.rglob("*") if p.is_file())
        return [output, output.with_suffix(".png")] if stage == "labels" else [output]

    def contents(self) -> dict[Path, tuple[bytes, int]]:
        """Bytes and time of every output of every stage."""
        paths = [p for stage in STAGES for name in NAMES for p in self.files(stage, name)]
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in paths}

    def problems(self) -> str:
        """What a thorough check of the results says."""
        return hvlabel("verify", "--deep", "--results", self.layout.root).out


@pytest.fixture(scope="module")
def finished(tmp_path_factory, repository):
    """A run with every stage done. Only to be read or copied."""
    folder = tmp_path_factory.mktemp("laws")
    for name in ("raw", "boxes"):
        (folder / name).mkdir()
    write_raw_files(folder)
    (folder / "c.yaml").write_text(yaml.safe_dump(configuration(folder, repository)))
    run = Run(folder)
    for stage, case in CASES.items():
        run.write_config(f"{stage}.yaml", case.changed)
    assert hvlabel("scan", "--config", folder / "c.yaml").status == 0
    assert set(run.walk_all().values()) == {(3, 0, 0, 0)}
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, to be spoilt. Its manifest names the original's raw files, which nobody spoils."""
    shutil.copytree(finished.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def moved(run, finished):
    """A copy whose manifest names its own raw files and marks."""
    manifest = run.layout.manifest.read_text()
    run.layout.manifest.write_text(manifest.replace(str(finished.folder), str(run.folder)))
    return run


def descendants(stage):
    """The stages that build on a stage, over others too."""
    later = {s for s in STAGES if stage in before(s, BRANCHES)}
    return later | {s for one in later for s in descendants(one)}


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


def test_marks_that_cannot_be_read_cost_one_image_and_a_changed_mark_is_noticed(moved):
    boxes = moved.folder / "boxes"
    (boxes / "s0.json").write_text('{"boxes": [[16, 21, 32, 33]]}')
    (boxes / f"{BAD}.json").write_text('{"boxes": [[16')
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
