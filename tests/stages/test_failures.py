"""What is not the image's fault is never final: the next run tries again, and keeps what was made."""

import errno

import cv2
import numpy as np
import pytest
import torch
from indexes import change_entries

from hvlabel.cache.index import StageIndex, drop_untrue, read_index
from hvlabel.cache.publish import publish_bytes
from hvlabel.errors import (
    BandError,
    ConfigError,
    CubeError,
    DeviceMemoryError,
    MaskFileError,
    RawFileError,
    ResultsError,
    WeightsError,
)
from hvlabel.layout import Layout
from hvlabel.manifest import Image, Scan
from hvlabel.stages.failures import cause_of
from hvlabel.stages.shard import run_shard
from tests.stages.test_shard import IMAGES, CopyStage, walk

HERE = Image("d", "i0", "0000", __file__, "", "s")
AWAY = Image("d", "i0", "0000", "/no/such/file", "", "s")


def raised(error, cause=None):
    """An error as a stage raises it, from another one if there is one."""
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def out_of_memory():
    try:
        np.empty((1 << 60,), np.uint8)
    except MemoryError as error:
        return error


def torch_out_of_memory():
    try:
        torch.empty(1 << 60, dtype=torch.uint8)
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "stage", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "rgb", "machine"),
        (OSError(errno.EROFS, "Read-only file system"), "labels", "machine"),
        (OSError(errno.ESTALE, "Stale file handle"), "cubes", "machine"),
        (PermissionError(errno.EACCES, "Permission denied"), "cubes", "machine"),
        (raised(RawFileError("x: cannot be read"), OSError(errno.EIO, "Input/output error")), "cubes", "machine"),
        (raised(CubeError("x: cannot be read"), OSError(errno.EIO, "Input/output error")), "rgb", "machine"),
        (ResultsError("x: cannot write"), "rgb", "machine"),
        (DeviceMemoryError("x"), "rgb", "machine"),
        (out_of_memory(), "material", "machine"),
        (torch_out_of_memory(), "rgb", "machine"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "rgb", "machine"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "rgb", "machine"),
        (
            cv2.error("OpenCV(4) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"),
            "rgb",
            "machine",
        ),
        (CubeError("x: a chunk is damaged"), "rgb", "damage"),
        (CubeError("x: a chunk is damaged"), "teacher", "damage"),
        (CubeError("x: a chunk is damaged"), "labels", "damage"),
        (MaskFileError("x: not JSON"), "labels", "damage"),
        (CubeError("x: without contrast"), "cubes", "input"),
        (MaskFileError("x: not JSON"), "prompts", "input"),
        (RawFileError("x: truncated"), "cubes", "input"),
        (raised(RawFileError("x: no data file"), FileNotFoundError(errno.ENOENT, "No such file")), "cubes", "input"),
        (OSError("Unable to synchronously open file (truncated file)"), "cubes", "input"),  # h5py's, without a number
        (BandError("x: no band"), "material", "input"),
        (ZeroDivisionError("oops"), "rgb", "input"),
    ],
)
def test_whose_fault_it_is(error, stage, cause):
    assert cause_of(error, stage, HERE) == cause


def test_a_raw_file_that_went_away_during_the_run_is_the_machines():
    missing = RawFileError("x: no such file")
    assert cause_of(missing, "cubes", AWAY) == "machine"
    assert cause_of(BandError("x: no band"), "rgb", AWAY) == "input"  # a branch reads no raw file


class FullDisk(CopyStage):
    """A stage that has no space for some images."""

    def make(self, image, key):
        if image.image_id in self.bad:
            raise OSError(errno.ENOSPC, "No space left on device", "masks/i1.json")
        return super().make(image, key)


def test_with_space_again_the_next_run_makes_what_is_missing_and_nothing_else(tmp_path):
    layout = Layout(tmp_path)
    index = walk(FullDisk(layout, bad=["i1"]))
    of_i1 = index.images["i1"]
    assert (of_i1.status, of_i1.cause, of_i1.is_final) == ("failed", "machine", False)
    assert of_i1.reason == "masks/i1.json: No space left on device; check permissions, space and mounts"
    path = layout.index("rgb", "d", "0000")
    cubes = layout.index("cubes", "d", "0000")
    builds_on = StageIndex("cubes", "d", "0000", {})
    publish_bytes(cubes, builds_on.to_json())
    assert "No space left" in drop_untrue(layout, dry=True)[path]
    drop_untrue(layout)
    assert not path.exists()
    mended = CopyStage(layout)
    walk(mended)
    assert mended.made == ["i1"]
    assert not drop_untrue(layout)


def test_an_older_output_stays_while_the_machine_is_at_fault(tmp_path):
    stage = FullDisk(Layout(tmp_path), bad=["i1"])
    walk(stage)
    assert stage.discarded == []


def test_a_bad_image_is_final_unless_all_failures_shall_be_tried_again(tmp_path):
    layout = Layout(tmp_path)
    walk(CopyStage(layout, bad=["i1"]))
    path = layout.index("rgb", "d", "0000")
    assert read_index(path).images["i1"].cause == "input"
    publish_bytes(layout.index("cubes", "d", "0000"), walk(CopyStage(layout)).to_json())
    walk(CopyStage(layout, bad=["i1"], setting="2"))
    assert not drop_untrue(layout, dry=True)
    assert drop_untrue(layout, dry=True, retry_all=True)[path] == "1 failed, e.g. /raw/i1: bad; mend it"


@pytest.mark.parametrize("error", [WeightsError("w: missing; fetch it"), ConfigError("c: unknown")])
def test_what_would_happen_with_every_image_ends_the_job(tmp_path, error):
    class WithoutWeights(CopyStage):
        def make(self, image, key):
            raise error

    with pytest.raises(type(error), match=str(error)):
        walk(WithoutWeights(Layout(tmp_path)))


def test_damage_of_an_earlier_output_remakes_that_one(tmp_path):
    """A branch that cannot read a cube: the next start drops the cube if it is damaged, and both indexes."""
    layout = Layout(tmp_path)

    class Unreadable(CopyStage):
        def make(self, image, key):
            raise CubeError(f"{layout.cube('d', image.image_id)}: a chunk is damaged")

    cubes = layout.index("cubes", "d", "0000")
    for image in IMAGES:
        layout.cube("d", image.image_id).mkdir(parents=True)  # without content: damaged
    layout.manifest.write_text(Scan(tuple(IMAGES), ()).table())
    index = run_shard(Unreadable(layout), IMAGES, layout, "d", "0000")
    assert {entry.cause for entry in index.images.values()} == {"damage"}
    publish_bytes(cubes, index.to_json())
    change_entries(cubes, status="ok", cause="")
    dropped = drop_untrue(layout)
    assert dropped[cubes] == "rgb could not read what is made of i0"
    assert layout.index("rgb", "d", "0000") in dropped
    assert not any(layout.cube("d", image.image_id).exists() for image in IMAGES)
