"""The manifest: found images, stable shards, sentences for data sets without images."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvlabel.config.tree import parse_config
from hvlabel.errors import ResultsError
from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest, scan

SIZE = 3


def config(folder, **more):
    tree = {
        "results": str(folder / "results"),
        "datasets": {
            "mine": {"root": str(folder / "raw"), "glob": "**/*.hdr", "descriptor": {"container": "envi"}},
            **more,
        },
        "run": {"shard_size": SIZE},
    }
    return parse_config(tree, "test")


def run(settings):
    found = scan(settings)
    path = Layout(Path(settings.results)).manifest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.table())
    assert read_manifest(path) == [*found.images, *found.remembered]
    return found


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "remove"]), st.sampled_from("abcdefghij")), max_size=25))
def test_images_keep_their_shard_whatever_comes_and_goes(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "raw").mkdir()
    (folder / "raw" / "first.hdr").write_text("x")
    shards = {i.image_id: i.shard for i in run(config(folder)).images}
    for step, name in steps:
        path = folder / "raw" / f"{name}.hdr"
        path.write_text("x") if step == "add" else path.unlink(missing_ok=True)
        before, found = shards, run(config(folder))
        shards = {i.image_id: i.shard for i in found.images}
        assert set(shards) == {p.stem for p in (folder / "raw").glob("*.hdr")}
        assert all(shards[name] == before[name] for name in shards.keys() & before.keys())
        assert all(len(found.in_shard(*s)) <= SIZE for s in found.shards())


def test_a_new_image_changes_one_shard_only(tmp_path):
    (tmp_path / "raw" / "sub").mkdir(parents=True)
    for k in range(7):
        (tmp_path / "raw" / "sub" / f"{k}.hdr").write_text("x")
    first = run(config(tmp_path))
    assert [i.image_id for i in first.images][:2] == ["sub__0", "sub__1"]
    (tmp_path / "raw" / "0new.hdr").write_text("x")
    second = run(config(tmp_path))
    changed = [s for s in second.shards() if second.fingerprint(*s) != first.fingerprint(*s)]
    assert changed == [("mine", "0002")]
    (tmp_path / "raw" / "sub" / "0.hdr").write_text("longer")
    third = run(config(tmp_path))
    assert [s for s in third.shards() if third.fingerprint(*s) != second.fingerprint(*s)] == [("mine", "0000")]


def test_a_data_set_without_images_is_named_and_the_others_go_on(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.hdr").write_text("x")
    (tmp_path / "empty").mkdir()
    envi = {"container": "envi"}
    found = scan(
        config(
            tmp_path,
            gone={"root": str(tmp_path / "gone"), "glob": "*", "descriptor": envi},
            odd={"root": str(tmp_path / "raw"), "glob": "/abs/*.hdr", "descriptor": envi},
            empty={"root": str(tmp_path / "empty"), "glob": "*.hdr", "descriptor": envi},
        )
    )
    assert [i.image_id for i in found.images] == ["a"]
    assert "data set odd: cannot list '/abs/*.hdr'" in found.problems[1]
    assert (found.problems[0], found.problems[2]) == (
        f"data set gone: root {tmp_path}/gone is no folder; correct datasets.gone.root or mount the disk",
        f"data set empty: nothing below {tmp_path}/empty matches '*.hdr'; correct datasets.empty.glob",
    )


def test_two_files_of_one_name_are_one_image_and_a_sentence(tmp_path):
    (tmp_path / "raw").mkdir()
    for suffix in ("hdr", "dat"):
        (tmp_path / "raw" / f"a.{suffix}").write_text("x")
    settings = parse_config(
        {
            "results": str(tmp_path / "r"),
            "datasets": {"mine": {"root": str(tmp_path / "raw"), "glob": "*", "descriptor": {"container": "envi"}}},
        },
        "t",
    )
    found = scan(settings)
    assert len(found.images) == 1
    assert "would both be image a; narrow datasets.mine.glob" in found.problems[0]


def test_demo_scenes_are_listed_before_they_exist(tmp_path):
    found = scan(
        parse_config({"results": str(tmp_path / "r"), "datasets": {"d": {"demo": "vis31", "demo_scenes": 2}}}, "t")
    )
    assert [i.image_id for i in found.images] == ["vis31_00", "vis31_01"]


def test_a_changed_data_file_or_companion_changes_the_shard(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "rgb").mkdir()
    for suffix in ("hdr", "dat"):
        (tmp_path / "raw" / f"a.{suffix}").write_text("x")
    tree = {
        "root": str(tmp_path / "raw"),
        "glob": "*.hdr",
        "descriptor": {"container": "envi", "rgb_companion": "../rgb/{stem}.png"},
        "allow_outside": True,
    }
    settings = parse_config({"results": str(tmp_path / "r"), "datasets": {"d": tree}}, "t")
    seen = []
    for path in (tmp_path / "raw" / "a.dat", tmp_path / "rgb" / "a.png", tmp_path / "raw" / "a.hdr"):
        path.write_text("longer than before" * (len(seen) + 1))
        seen.append(scan(settings).fingerprint("d", "0000"))
    assert len(set(seen)) == 3
    assert scan(settings).images[0].companion.endswith("rgb/a.png")


def test_a_disk_that_is_away_keeps_its_images_in_their_shards(tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("b", "c", "d", "e"):
        (tmp_path / "raw" / f"{name}.hdr").write_text("x")
    run(config(tmp_path))
    (tmp_path / "raw" / "a.hdr").write_text("x")
    before = {i.image_id: i.shard for i in run(config(tmp_path)).images}
    assert before["a"] == "0001"
    (tmp_path / "raw").rename(tmp_path / "away")
    gone = run(config(tmp_path))
    assert gone.images == ()
    assert len(gone.remembered) == 5
    (tmp_path / "away").rename(tmp_path / "raw")
    assert {i.image_id: i.shard for i in run(config(tmp_path)).images} == before


@pytest.mark.parametrize("content", [b"dataset\timage_id\nd\n", b"\xff\xfe\x00", b"dataset\tfile\nd\tx\n"])
def test_a_damaged_manifest_is_one_sentence(tmp_path, content):
    (tmp_path / "m.tsv").write_bytes(content)
    with pytest.raises(ResultsError, match="not a manifest of this version"):
        read_manifest(tmp_path / "m.tsv")
