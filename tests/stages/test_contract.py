"""The laws of hvlabel/stages/contract.py, for all four stages."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hvlabel.branches.rgb import RgbSettings
from hvlabel.cache.index import read_index
from hvlabel.cache.receipt import read_attributes
from hvlabel.config import CubeSettings, Sam2Model, TeacherSettings
from hvlabel.config.fusion import FusionSettings
from hvlabel.descriptors import Descriptor
from hvlabel.layout import ZARR_STAGES, Layout
from hvlabel.manifest import Image, Scan
from hvlabel.masks import read_document
from hvlabel.stages.convert import CubeStage
from hvlabel.stages.fuse import FuseStage
from hvlabel.stages.segment import BranchRunner, BranchStage
from hvlabel.stages.shard import run_shard
from hvlabel.stages.teacher import TeacherRunner, TeacherStage

STAGES = ("cubes", "rgb", "labels", "teacher")
NM = {"start_nm": 450, "stop_nm": 650, "count": 9}


@pytest.fixture(scope="module")
def teacher(repository):
    network = Sam2Model(config=str(repository / "resources/models/sam2_nano.yaml"), checkpoint="random:1")
    return TeacherRunner(TeacherSettings(backend="sam2", sam2=network), "cpu")


@pytest.fixture
def run(tmp_path, teacher):
    """Walks one stage, or those before it too, on one small image."""
    return Run(tmp_path, teacher)


class Run:
    def __init__(self, folder, teacher):
        values = np.random.default_rng(0).normal(100, 2, (40, 40, 9))
        values[8:24, 6:26] += 60
        np.save(folder / "a.npy", values)
        self.image = Image("d", "a", "0000", str(folder / "a.npy"), "", "stamp")
        self.layout = Layout(folder / "results")
        self.layout.root.mkdir()
        self.layout.manifest.write_text(Scan((self.image,), ()).table())
        self.teacher = teacher

    def stage(self, name):
        """A new object of a stage, as a new job makes it."""
        if name == "cubes":
            return CubeStage(self.layout, Descriptor(container="npy", wavelengths_nm=NM), CubeSettings())
        if name == "rgb":
            return BranchStage(self.layout, BranchRunner("rgb", RgbSettings(backend="regions")), "d", "0000")
        if name == "labels":
            return FuseStage(self.layout, FusionSettings(branches=("rgb",)), "d", "0000")
        return TeacherStage(self.layout, self.teacher, "d", "0000")

    def output(self, name):
        return self.layout.output(name, "d", "a")

    def walk(self, name):
        """The entry of the image."""
        return run_shard(self.stage(name), [self.image], self.layout, "d", "0000").images["a"]

    def walk_before(self, name):
        for earlier in STAGES[: STAGES.index(name)]:
            if earlier != "teacher":
                assert self.walk(earlier).status == "ok"


def key_in(name, path):
    if name in ZARR_STAGES:
        return read_attributes(path)["key"]
    return read_document(path)["provenance"]["key"]


@pytest.fixture
def reads(monkeypatch):
    """How often each file was read whole."""
    counts = Counter()
    read_bytes = Path.read_bytes

    def counted(path):
        counts[path] += 1
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    return counts


@pytest.mark.parametrize("name", STAGES)
def test_what_was_made_is_valid_with_the_same_entry(run, name):
    run.walk_before(name)
    made = run.walk(name)
    assert made.made
    stage = run.stage(name)
    assert stage.blocked(run.image) is None
    key = stage.key(run.image)
    kept = stage.valid(run.image, key)
    assert (kept.path, kept.digest, kept.seconds, kept.counts) == (made.path, made.digest, made.seconds, made.counts)
    assert not kept.made
    assert key_in(name, run.output(name)) == key
    assert run.walk(name) == kept


@pytest.mark.parametrize("name", STAGES)
def test_the_key_is_the_one_that_is_handed_on(run, name):
    run.walk_before(name)
    stage = run.stage(name)
    entry = stage.make(run.image, "given")
    assert key_in(name, run.output(name)) == "given"
    assert stage.blocked(run.image) is None
    assert stage.valid(run.image, "given") == entry
    assert stage.valid(run.image, "another") is None


@pytest.mark.parametrize("name", STAGES)
def test_making_reads_nothing_of_what_it_made(run, name, reads):
    run.walk_before(name)
    stage = run.stage(name)
    key = stage.key(run.image)
    reads.clear()
    stage.make(run.image, key)
    output = run.output(name)
    assert not [path for path in reads if path == output or output in path.parents]


@pytest.mark.parametrize("name", STAGES)
def test_a_damaged_output_is_not_valid_and_is_made_again(run, name):
    run.walk_before(name)
    before = run.walk(name)
    output = run.output(name)
    damaged = output if output.is_file() else next(p for p in output.rglob("*") if p.is_file() and p.suffix != ".json")
    damaged.write_bytes(damaged.read_bytes()[:-2])
    again = run.walk(name)
    assert again.made
    assert again.digest == before.digest


@pytest.mark.parametrize("name", ["rgb", "labels", "teacher"])
def test_what_an_earlier_stage_left_out_is_skipped_with_its_reason(run, name):
    run.walk_before(name)
    Path(run.image.raw).write_bytes(b"no array")
    cube = run.walk("cubes")
    assert cube.status == "failed"
    if name == "labels":
        run.walk("rgb")
    entry = run.walk(name)
    assert entry.status == "skipped"
    assert cube.reason in entry.reason
    assert read_index(run.layout.index(name, "d", "0000")).images["a"] == entry


def test_fusing_reads_each_file_once(run, reads):
    run.walk_before("labels")
    masks, label = run.layout.masks("rgb", "d", "a"), run.output("labels")
    reads.clear()
    run.walk("labels")
    assert (reads[masks], reads[label]) == (1, 0)  # the key and the label are made from the same parsed file
    reads.clear()
    assert not run.walk("labels").made
    assert (reads[masks], reads[label]) == (1, 1)


def test_a_touched_raw_file_is_hashed_once_and_its_cube_is_kept(run, monkeypatch):
    run.walk("cubes")
    hashed = []
    monkeypatch.setattr("hvlabel.stages.convert.raw_sha256", lambda files: hashed.append(files) or "another")
    Path(run.image.raw).touch()
    assert run.walk("cubes").made  # its content seems to be another
    assert len(hashed) == 1
    assert read_attributes(run.output("cubes"))["source"]["sha256"] == "another"
