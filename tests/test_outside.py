"""A data set is what lies below its root: whatever leads out of it is refused unless the configuration allows it."""

import json
import os
from pathlib import Path

import pytest
import yaml
from verbs import hvlabel

from hvlabel.config import Dataset
from hvlabel.config.tree import parse_config
from hvlabel.errors import ConfigError
from hvlabel.manifest import scan
from hvlabel.walk import Bounds

NPY = {"files": "*.npy", "container": "npy"}


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def scanned(folder, descriptor=NPY, **more):
    dataset = {"root": str(folder / "raw"), "descriptor": descriptor, **more}
    found = scan(parse_config({"results": str(folder / "results"), "datasets": {"d": dataset}}, "test"))
    return [i.image_id for i in found.images], list(found.problems)


def test_a_link_to_a_folder_elsewhere_is_followed_where_that_is_allowed(tmp_path):
    touch(tmp_path / "raw/a.npy")
    touch(tmp_path / "disk/sub/b.npy")
    (tmp_path / "raw/linked").symlink_to(tmp_path / "disk")
    images, (problem,) = scanned(tmp_path)
    assert images == ["a"]
    assert problem == (
        f"data set d: 1 links below {tmp_path}/raw lead out of it and are not followed, e.g. {tmp_path}/raw/linked to "
        f"{tmp_path}/disk; if images lie there, set datasets.d.allow_outside: true"
    )
    assert scanned(tmp_path, allow_outside=True) == (["a", "linked__sub__b"], [])


@pytest.mark.parametrize("target", ["disk/b.npy", "raw/../disk/b.npy"])
def test_a_link_to_a_file_elsewhere(tmp_path, target):
    touch(tmp_path / "raw/a.npy")
    touch(tmp_path / "disk/b.npy")
    (tmp_path / "raw/b.npy").symlink_to(tmp_path / target)
    (tmp_path / "raw/notes.txt").symlink_to(touch(tmp_path / "disk/notes.txt"))  # no image: nobody need hear of it
    images, problems = scanned(tmp_path)
    assert images == ["a"]
    assert "1 links below" in problems[0]
    assert scanned(tmp_path, allow_outside=True) == (["a", "b"], [])


def test_links_that_stay_inside_are_no_matter(tmp_path):
    touch(tmp_path / "raw/sub/a.npy")
    (tmp_path / "raw/linked").symlink_to(tmp_path / "raw/sub")
    (tmp_path / "raw/round").symlink_to(tmp_path / "raw")
    (tmp_path / "raw/b.npy").symlink_to("sub/../sub/a.npy")
    assert scanned(tmp_path) == (["b", "linked__a", "sub__a"], [])


def test_a_root_may_be_a_link(tmp_path):
    touch(tmp_path / "disk/sub/a.npy")
    touch(tmp_path / "disk/rgb/a.png")
    (tmp_path / "raw").symlink_to(tmp_path / "disk")
    assert scanned(tmp_path, NPY | {"rgb_companion": "../rgb/{stem}.png"}) == (["sub__a"], [])


@pytest.mark.parametrize("key", ["rgb_companion", "prompts"])
@pytest.mark.parametrize(
    "rule", ["../disk/{stem}.png", "sub/../../disk/{stem}.png", "ABSOLUTE/{stem}.png", "link/{stem}.png", "{stem}.png"]
)
def test_a_companion_elsewhere_costs_its_image(tmp_path, key, rule):
    touch(tmp_path / "raw/a.npy")
    touch(tmp_path / "raw/sub/x")
    touch(tmp_path / "disk/a.png")
    (tmp_path / "raw/link").symlink_to(tmp_path / "disk")
    (tmp_path / "raw/a.png").symlink_to(tmp_path / "disk/a.png")
    descriptor = NPY | {key: rule.replace("ABSOLUTE", str(tmp_path / "disk"))}
    images, problems = scanned(tmp_path, descriptor)
    assert images == []
    assert any("which lies outside of" in p and "or set datasets.d.allow_outside: true" in p for p in problems)
    assert scanned(tmp_path, descriptor, allow_outside=True)[0] == ["a"]


def test_a_part_of_an_image_that_is_a_link_elsewhere_costs_that_image(tmp_path):
    for name in ("raw/a.hdr", "raw/b.hdr", "raw/b.dat", "disk/a.dat"):
        touch(tmp_path / name)
    (tmp_path / "raw/a.dat").symlink_to(tmp_path / "disk/a.dat")
    images, problems = scanned(tmp_path, {"files": "*.hdr", "container": "envi"})
    assert images == ["b"]
    assert (
        f"{tmp_path}/raw/a.hdr is read with {tmp_path}/raw/a.dat, which lies outside of {tmp_path}/raw" in problems[0]
    )


def test_a_band_of_a_folder_that_is_a_link_elsewhere_costs_that_image(tmp_path):
    for name in ("raw/a/1.png", "raw/b/1.png", "disk/2.png"):
        touch(tmp_path / name)
    (tmp_path / "raw/a/2.png").symlink_to(tmp_path / "disk/2.png")
    images, problems = scanned(tmp_path, {"files": "*", "container": "band_png"})
    assert images == ["b"]
    assert any("raw/a is read with" in p for p in problems)


@pytest.mark.parametrize("glob", ["../*.npy", "/etc/*", "sub/../../disk/*.npy"])
@pytest.mark.parametrize("allow_outside", [False, True])
def test_patterns_never_leave_the_root(tmp_path, glob, allow_outside):
    touch(tmp_path / "raw/a.npy")
    touch(tmp_path / "b.npy")
    images, problems = scanned(tmp_path, glob=glob, allow_outside=allow_outside)
    assert images == []
    assert "has to name files below the root" in problems[0]


def test_a_descriptor_cannot_allow_it(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown key 'datasets.d.descriptor.allow_outside'"):
        scanned(tmp_path, NPY | {"allow_outside": True})


def test_a_data_set_that_stays_inside_is_known_by_the_same_text_as_before():
    assert "allow_outside" not in Dataset(demo="vis31").model_dump_json()
    allowed = Dataset.model_validate({"root": "r", "descriptor": "envi", "allow_outside": True})
    assert Dataset.model_validate(json.loads(allowed.model_dump_json())).allow_outside


def test_the_data_card_names_what_is_allowed(tmp_path):
    import numpy as np

    values = np.random.default_rng(0).random((8, 8, 4), dtype=np.float32)
    for name in ("raw/a.npy", "disk/sub/b.npy"):
        (tmp_path / name).parent.mkdir(parents=True)
        np.save(tmp_path / name, values)
    (tmp_path / "raw/linked").symlink_to(tmp_path / "disk")
    descriptor = NPY | {"wavelengths_nm": {"start_nm": 450, "stop_nm": 650, "count": 4}}
    dataset = {"root": str(tmp_path / "raw"), "descriptor": descriptor, "allow_outside": True}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"results": str(tmp_path / "r"), "datasets": {"d": dataset}}))
    said = hvlabel("scan", "--table", "--config", tmp_path / "c.yaml")
    assert said.status == 0
    assert f"## Outside of the root\n\n- d: {tmp_path}/raw: also read are {tmp_path}/disk/sub (1 files)" in said.out


def test_bounds_follow_links_on_the_way(tmp_path):
    (tmp_path / "raw/in").mkdir(parents=True)
    (tmp_path / "out/deep").mkdir(parents=True)
    (tmp_path / "raw/link").symlink_to(tmp_path / "out/deep")
    bounds = Bounds(tmp_path / "raw")
    inside = ("a", "in/a", "in/../a", "not/there/a", "link/../../raw/a")
    outside = ("../a", "link/a", "link/../a", "../rawer/a", "/etc/passwd", "in/../../a")
    assert [bounds.hold(tmp_path / "raw" / name) for name in inside] == [True] * 5
    assert [bounds.hold(tmp_path / "raw" / name) for name in outside] == [False] * 6
    assert Bounds(Path("/")).hold(Path(os.devnull))
