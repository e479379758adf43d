"""Names of raw files and folders, whatever they are: at worst one image is left out with one sentence."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from verbs import hvlabel

from hvlabel.cache.publish import private_name, publish_bytes
from hvlabel.config.tree import parse_config
from hvlabel.errors import ConfigError, HvError, printable, run_program
from hvlabel.layout import MAX_NAME_BYTES, Layout
from hvlabel.manifest import Image, Scan, read_manifest, scan

# an image is made of each of these
ALLOWED = [
    "-rf", "--help", " leading", "trailing ", "a#b", "a?b", "a%20b", "100%", "%s%n", "#", "&amp;", "'single'", '"double"',
    "<script>alert(1)<", "$HOME", "`id`", "a;b|c&d", "[ab]*", "{stem}", "{0}", "}{", "back\\slash", "~", "a=b", "nul", "=1+1",
    "\u202egnp.x", "é", "日本", "x" * 240,
]  # fmt: skip
# no table or page could hold these
REFUSED = [
    b"a\rb", b"a\nb", b"a\tb", b"a\x0bb", b"a\x0cb", b"a\x1b[2Jb", b"a\x07b", "a\x85b".encode(), "a\u2028b".encode(),
    "a\u2029b".encode(), b"caf\xe9", b"\xff\xfe", b"x" * 251,
]  # fmt: skip
CSI = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]")


def settings(folder, **more):
    descriptor = {"files": "*.npy", "container": "npy", "wavelengths_nm": {"start_nm": 450, "stop_nm": 650, "count": 4}}
    tree = {
        "results": str(folder / "results"),
        "datasets": {"mine": {"root": str(folder / "raw"), "descriptor": descriptor}, **more},
        "run": {"max_failed_share": 0},
        "sequence": {"backend": "regions", "max_frames": 2},
        "rgb": {"backend": "regions"},
        "material": {"backend": "regions"},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(tree))
    return parse_config(tree, "test")


def cube(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        np.save(path, np.random.default_rng(seed).random((24, 20, 4), dtype=np.float32))
    except OSError:
        pytest.skip("this file system takes no such name")


class Page(HTMLParser):
    """The tags that a page has, and what its scripts read."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.data, self._is_data = [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._is_data = dict(attrs).get("id") == "data"

    def handle_data(self, text):
        if self._is_data:
            self.data += text

    def handle_endtag(self, tag):
        self._is_data = False


def test_names_of_any_kind_go_through_all_stages(tmp_path):
    config = settings(tmp_path)
    for k, name in enumerate(ALLOWED):
        cube(tmp_path / "raw" / f"{name}.npy", k)
    where = ("--config", tmp_path / "c.yaml", "--results", tmp_path / "results")
    jobs = [("convert", "--shard", "mine/0000", *where)]
    jobs += [("segment", branch, "--shard", "mine/0000", *where) for branch in ("rgb", "sequence", "material")]
    jobs += [
        ("fuse", "--shard", "mine/0000", *where),
        ("report", "--max-pages", 8, *where[2:]),
        ("summary", "--check", *where),
        ("verify", "--deep", *where[2:]),
    ]
    for job in (("scan", "--table", *where[:2]), *jobs):
        said = hvlabel(*job)
        assert said.status == 0, said.text
        assert not CSI.search(said.text.replace("\r", "")), job  # \r: progress
    layout = Layout(tmp_path / "results")
    assert {i.image_id for i in scan(config).images} == set(ALLOWED)
    assert all(layout.label("mine", name).is_file() for name in ALLOWED)
    page = Page(layout.report.read_text(encoding="utf-8"))
    # the page's own scripts, and no tag that a name brought
    assert page.tags.count("script") == 2
    assert not {"img", "b", "i"} & set(page.tags)
    rows = json.loads(page.data)
    pictures = [row[rows["columns"].index("picture")] for row in rows["rows"]]
    pages = [row[rows["columns"].index("page")] for row in rows["rows"]]
    assert len(pictures) == len(ALLOWED)
    assert None not in pictures
    assert len(pages) - pages.count(None) == 8
    for address in {*pictures, *pages} - {None}:
        assert not re.search(r"[#?<>\"' ]|%(?![0-9A-F]{2})", address)
        assert (layout.report.parent / unquote(address)).is_file()


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("of", ["file", "folder"])
def test_a_name_that_nothing_can_hold_costs_its_images_only(tmp_path, name, of):
    cube(tmp_path / "raw" / "good.npy")
    cube(tmp_path / "other" / "good.npy")
    bad = os.fsdecode(name)
    try:
        cube(tmp_path / "raw" / (f"{bad}.npy" if of == "file" else f"{bad}/x.npy"))
    except OSError:
        pytest.skip("this file system takes no such name")
    config = settings(
        tmp_path, other={"root": str(tmp_path / "other"), "descriptor": {"files": "*.npy", "container": "npy"}}
    )
    images = scan(config)
    assert [(i.dataset, i.image_id) for i in images.images] == [("mine", "good"), ("other", "good")]
    (problem,) = images.problems
    assert problem.startswith("data set mine: 1 files left out: ")
    assert problem.isprintable()
    said = hvlabel("scan", "--config", tmp_path / "c.yaml")
    assert said.status == 0
    assert said.err.count("\n") == 1


def test_a_companion_whose_name_is_too_long_costs_one_image(tmp_path):
    config = settings(tmp_path)
    for name in ("a", "x" * 240):
        cube(tmp_path / "raw" / f"{name}.npy")
    descriptor = config.datasets["mine"].described("mine").model_copy(update={"rgb_companion": None})
    tree = descriptor.model_dump() | {"rgb_companion": "{stem}_rgb_picture_of_it.png"}
    images = scan(settings(tmp_path, mine={"root": str(tmp_path / "raw"), "descriptor": tree}))
    assert [i.image_id for i in images.images] == ["a"]
    assert "File name too long" in images.problems[0]


def test_a_companion_that_no_table_can_hold_costs_its_images(tmp_path):
    cube(tmp_path / "raw" / "a.npy")
    tree = {"files": "*.npy", "container": "npy", "rgb_companion": "x\u2028y/{stem}.png"}
    images = scan(settings(tmp_path, mine={"root": str(tmp_path / "raw"), "descriptor": tree}))
    assert not images.images
    assert "holds a control character; correct rgb_companion or prompts of the descriptor" in images.problems[0]
    assert images.problems[0].isprintable()


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
HOSTILE = st.text(st.sampled_from("\r\n\t\x0b\x0c\x1c\x85\u2028\u2029\"', ab"), max_size=6)
SHARDS = st.integers(0, 9999).map("{:04d}".format)
IMAGES = st.builds(Image, CELLS, CELLS, SHARDS, *([CELLS | HOSTILE] * 5))


@given(st.lists(IMAGES, max_size=5), st.lists(IMAGES, max_size=2))
def test_a_manifest_reads_back_whatever_it_wrote(tmp_path_factory, images, remembered):
    path = tmp_path_factory.getbasetemp() / "manifest.tsv"
    publish_bytes(path, Scan(tuple(images), (), tuple(remembered)).table().encode())
    assert read_manifest(path) == [*images, *remembered]


@given(st.binary(max_size=120) | st.text(max_size=120).map(lambda text: text.encode(errors="ignore")))
def test_a_damaged_manifest_is_rows_or_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "damaged.tsv"
    path.write_bytes(Scan((), ()).table().encode() + content)
    try:
        assert all(isinstance(row, Image) for row in read_manifest(path))
    except HvError as error:
        said = str(error)
        assert said.startswith(f"{path}: not a manifest of this version")


@given(st.text())
def test_what_is_printed_cannot_move_the_cursor(text):
    shown = printable(text)
    assert not CSI.search(shown)
    shown.encode()
    assert printable(shown) == shown


def test_messages_escape_what_a_name_holds(capsys):
    def program():
        raise ConfigError("/data/a\x1b[2J\u202eb\udcff.mat: no such file")

    with pytest.raises(SystemExit):
        run_program("hvlabel", program)
    assert capsys.readouterr().err == "hvlabel: error: /data/a\\x1b[2J\\u202eb\\udcff.mat: no such file\n"


@pytest.mark.parametrize("results", ["a{b", "a}b", "{dataset}", "a\nb", "a\u2028b", "a\x1bb"])
def test_a_results_folder_that_a_run_could_not_use_is_refused_early(tmp_path, results):
    with pytest.raises(ConfigError, match=r"results: the path may hold no braces and no control characters"):
        parse_config({"results": results, "datasets": {"d": {"demo": "vis31"}}}, "test")


@pytest.mark.parametrize("given", ["~nobody-of-this-name/data", "a\0b"])
def test_a_root_that_cannot_be_is_one_sentence(tmp_path, given):
    cube(tmp_path / "raw" / "good.npy")
    config = settings(tmp_path, other={"root": given, "descriptor": {"files": "*.npy", "container": "npy"}})
    images = scan(config)
    assert [i.image_id for i in images.images] == ["good"]
    assert len(images.problems) == 1
    assert images.problems[0].isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=255))
def test_a_private_name_fits_a_disk_and_is_taken_apart_again(name):
    private = private_name(name, "tmp")
    assert len(private.encode()) <= MAX_NAME_BYTES
    kept = private[1:].rsplit(".", 2)[0]
    assert name.startswith(kept)
    assert kept == name or len(private.encode()) > MAX_NAME_BYTES - 4


def test_a_private_name_tells_the_machine_and_the_process(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "node 7.cluster/ü")
    assert private_name("a.json", "tmp") == f".a.json.node-7-cluster--.{os.getpid()}.tmp".replace(
        f".{os.getpid()}", f"-{os.getpid()}"
    )
    assert Path(private_name("a.zarr", "old")).suffix == ".old"
