"""What a scan finds below a folder: linked folders and capitals, nothing hidden, and a sentence for a bad name."""

import os

import pytest

from hvlabel.config.tree import parse_config
from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest, scan
from hvlabel.walk import matching, visible_files


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path


def found(root, *patterns):
    return [str(p.relative_to(root)) for p in matching(root, patterns)]


def test_linked_folders_are_walked_once_and_capitals_do_not_matter(tmp_path):
    root = tmp_path / "raw"
    touch(root / "a.hdr")
    touch(root / "B.HDR")
    touch(tmp_path / "elsewhere" / "sub" / "c.hdr")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "linked_file.hdr").symlink_to(root / "a.hdr")
    (root / "round").symlink_to(root)  # would never end
    (root / "broken.hdr").symlink_to(root / "nowhere")
    told: list[OSError] = []
    assert [str(p.relative_to(root)) for p in matching(root, ["**/*.hdr"], told.append)] == [
        "B.HDR",
        "a.hdr",
        "linked/sub/c.hdr",
        "linked_file.hdr",
    ]
    assert [os.path.basename(e.filename) for e in told] == ["broken.hdr"]  # an image may be meant


def test_hidden_and_discarded_files_are_left_out(tmp_path):
    for name in (
        ".ipynb_checkpoints/a.hdr",
        ".Trash-1000/files/b.hdr",
        "._x.hdr",
        "__MACOSX/c.hdr",
        "$RECYCLE.BIN/d.hdr",
        "sub/.e.hdr",
    ):
        touch(tmp_path / name)
    touch(tmp_path / "sub" / "f.hdr")
    assert found(tmp_path, "**/*.hdr") == ["sub/f.hdr"]
    assert [p.name for p in visible_files(tmp_path)] == ["f.hdr"]
    assert found(tmp_path, ".Trash-*/files/*.hdr") == [".Trash-1000/files/b.hdr"]  # asked for by name


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mat", ["a.mat"]),
        ("**/*.mat", ["a.mat", "x/b.mat", "x/hyper/c.mat", "y/hyper/d.MAT"]),
        ("**/hyper/*.mat", ["x/hyper/c.mat", "y/hyper/d.MAT"]),
        ("x/**", ["x", "x/b.mat", "x/hyper", "x/hyper/c.mat"]),
        ("*/hyper", ["x/hyper", "y/hyper"]),
        ("?/[bc].mat", ["x/b.mat"]),
        ("**/**/c.mat", ["x/hyper/c.mat"]),
        ("z*.mat", []),
    ],
)
def test_patterns(tmp_path, pattern, expected):
    for name in ("a.mat", "x/b.mat", "x/hyper/c.mat", "y/hyper/d.MAT"):
        touch(tmp_path / name)
    assert found(tmp_path, pattern) == sorted(expected)


@pytest.mark.parametrize("pattern", ["../*.mat", "x/../../y", "/etc/*", ""])
def test_patterns_that_leave_the_root_are_refused(tmp_path, pattern):
    with pytest.raises(ValueError, match="below the root"):
        matching(tmp_path, [pattern])


def settings(folder):
    tree = {
        "results": str(folder / "results"),
        "datasets": {"mine": {"root": str(folder / "raw"), "glob": "**/*.hdr", "descriptor": {"container": "envi"}}},
    }
    return parse_config(tree, "test")


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9.hdr",
        b"a\nb.hdr",
        b"a\rb.hdr",
        b"a\x0bb.hdr",
        b"a\x0cb.hdr",
        "a\u2028b.hdr".encode(),
        "a\x85b.hdr".encode(),
    ],
)
def test_a_name_that_no_table_can_hold_costs_one_image_and_gives_one_sentence(tmp_path, name):
    touch(tmp_path / "raw" / "good.hdr")
    try:
        (tmp_path / "raw" / os.fsdecode(name)).write_text("x")
    except OSError:
        pytest.skip("this file system takes no such name")
    images = scan(settings(tmp_path))
    assert [i.image_id for i in images.images] == ["good"]
    (problem,) = images.problems
    assert "1 files left out" in problem
    assert "rename" in problem
    assert problem.isprintable()
    path = Layout(tmp_path / "results").manifest
    touch(path).write_text(images.table())
    assert read_manifest(path) == list(images.images)


def test_a_folder_that_cannot_be_listed_is_told(tmp_path):
    touch(tmp_path / "raw" / "good.hdr")
    closed = tmp_path / "raw" / "closed"
    closed.mkdir()
    closed.chmod(0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("this user may list every folder")
        images = scan(settings(tmp_path))
    finally:
        closed.chmod(0o755)
    assert [i.image_id for i in images.images] == ["good"]
    assert "closed" in images.problems[0]


@pytest.mark.parametrize(
    ("image", "part"),
    [
        ("s0.raw.hdr", "s0.raw"), ("x.img.hdr", "x.img"), ("s.v1.hdr", "s.v1"), ("s.hdr", "s.raw"), ("s.hdr", "s"),
        ("t.hdr", "t.pix"), ("t.hdr", "t.img.hdr"),
    ],
)  # fmt: skip
def test_a_replaced_file_of_an_image_changes_its_stamp(tmp_path, image, part):
    touch(tmp_path / "raw" / image)
    touch(tmp_path / "raw" / part)
    touch(tmp_path / "raw" / "other.raw")
    before = {i.image_id: i.stamp for i in scan(settings(tmp_path)).images}
    name = image.removesuffix(".hdr")
    touch(tmp_path / "raw" / "other.raw").write_text("longer")
    assert {i.image_id: i.stamp for i in scan(settings(tmp_path)).images} == before
    touch(tmp_path / "raw" / part).write_text("another content")
    after = {i.image_id: i.stamp for i in scan(settings(tmp_path)).images}
    assert after[name] != before[name]
