"""The walk over a results folder: choices, damage, what is never overwritten."""

import json
import shutil
import sys
from urllib.parse import unquote

import numpy as np
import pytest
from verbs import hvlabel

from hvlabel.errors import ConfigError, ResultsError
from hvlabel.exports import export, formats_of
from hvlabel.exports.contract import needed
from hvlabel.exports.source import Source
from hvlabel.exports.table import NAMES, TABLE
from hvlabel.inspect.materials import group_materials, write_materials
from hvlabel.layout import Layout
from hvlabel.masks import MaskSet, dump_masks, read_masks

HOSTILE = ("-rf", "a b", "100%", "a#b?c", "&amp;<b>", '"quoted"', "=1+1", "{stem}", "\u202egnp.x", "é日本", "x" * 240)


@pytest.fixture
def own(layout, tmp_path):
    """A copy to spoil."""
    shutil.copytree(layout.root, tmp_path / "results")
    return Layout(tmp_path / "results")


def test_the_table_is_the_folder(repository):
    modules = {path.stem for path in (repository / "hvlabel/exports/formats").glob("*.py")} - {"__init__"}
    assert {row.module for row in TABLE} == modules


def test_several_formats_get_a_folder_each(layout, tmp_path):
    said = hvlabel("export", tmp_path / "out", "--to", "coco,parquet", "--results", layout.root)
    assert said.status == 0, said.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"coco", "parquet"}
    assert "masks of 2 images" in said.out


def test_formats_are_listed(tmp_path):
    said = hvlabel("export", tmp_path, "--to", "list")
    assert [line.split()[0] for line in said.out.splitlines()] == list(NAMES)


def test_min_quality_and_branch_choose(layout, tmp_path):
    qualities = [m.extra["quality"] for n in ("vis31_00", "vis31_01") for m in read_masks(layout.label("d", n)).masks]
    least = float(np.median(qualities))
    good = export(Source(layout, min_quality=least), ["parquet"], tmp_path / "good")[0].remarks.n_masks
    assert good == sum(q >= least for q in qualities) < len(qualities)
    of_branch = export(Source(layout, branch="rgb"), ["parquet"], tmp_path / "rgb")[0].remarks.n_masks
    assert of_branch == sum(len(read_masks(layout.masks("rgb", "d", n))) for n in ("vis31_00", "vis31_01"))


def test_one_bad_label_is_named_and_the_rest_exported(own, tmp_path):
    path = own.label("d", "vis31_00")
    path.write_bytes(path.read_bytes()[:-100])
    said = hvlabel("export", tmp_path / "out", "--to", "coco", "--results", own.root)
    assert said.status == 0
    assert "d/vis31_00: not exported" in said.err
    facts = json.loads((tmp_path / "out/export.json").read_text())
    assert (facts["images"], list(facts["failed"])) == (1, ["d/vis31_00"])


def test_a_missing_picture_comes_from_the_cube(own, tmp_path):
    picture = own.label("d", "vis31_00").with_suffix(".png")
    expected = picture.read_bytes()
    picture.unlink()
    folder = export(Source(own), ["coco"], tmp_path / "out")[0].folder
    assert (folder / "images/default/d__vis31_00.png").read_bytes() == expected


def test_an_image_without_picture_and_cube_is_named(own, tmp_path):
    own.label("d", "vis31_00").with_suffix(".png").unlink()
    shutil.rmtree(own.cube("d", "vis31_00"))
    source = Source(own)
    assert export(source, ["yolo"], tmp_path / "out")[0].remarks.n_images == 1
    assert "no such cube" in source.failed["d/vis31_00"]


def test_nothing_to_export_is_refused(own, tmp_path):
    for path in own.labels.glob("*/*.json"):
        path.write_text("{}")
    with pytest.raises(ResultsError, match="no image could be exported"):
        export(Source(own), ["coco"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ResultsError, match="no masks to export"):
        export(Source(own, branch="regions"), ["coco"], tmp_path / "out")


def test_a_folder_of_somebody_is_left_alone(layout, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no export"):
        export(Source(layout), ["coco"], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_older_export_is_replaced_whole(layout, tmp_path):
    out = tmp_path / "out"
    export(Source(layout), ["coco"], out)
    (out / "images/default/old.png").write_text("")
    export(Source(layout), ["coco"], out)
    assert not (out / "images/default/old.png").exists()


def test_unknown_formats_and_missing_packages_are_one_sentence():
    with pytest.raises(ConfigError, match="no export 'jpeg'; there are coco, "):
        formats_of("coco,jpeg")
    with pytest.raises(ConfigError, match="names no format"):
        formats_of(" , ")
    with pytest.raises(ConfigError, match=r"needs gone, which is not installed; pip install 'hvlabel\[geo\]'"):
        needed("gone.deep", "geo")


def test_of_several_formats_none_is_written_if_one_cannot_be(layout, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "geopandas", None)
    with pytest.raises(ConfigError, match="an export needs geopandas"):
        export(Source(layout), ["coco", "geojson"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_a_mask_is_exported_too(layout, tmp_path, name):
    if name in ("geojson", "gpkg"):
        pytest.importorskip("geopandas", reason="geopandas is not installed: pip install 'hvlabel[geo]'")
    folder = tmp_path / "results" / "labels" / "d"
    folder.mkdir(parents=True)
    (folder / "empty.json").write_bytes(dump_masks(MaskSet(64, 64, ()), "empty", {"stage": "labels"}))
    shutil.copy(layout.label("d", "vis31_00").with_suffix(".png"), folder / "empty.png")
    exported = export(Source(Layout(tmp_path / "results")), [name], tmp_path / "out")[0]
    assert (exported.remarks.n_images, exported.remarks.n_masks) == (1, 0)


@pytest.mark.parametrize("name", [row.name for row in TABLE if row.name not in ("geojson", "gpkg")])
def test_names_of_images_may_be_anything(layout, tmp_path, name):
    label, picture = (layout.label("d", "vis31_00").with_suffix(suffix) for suffix in (".json", ".png"))
    folder = tmp_path / "results" / "labels" / "set-of-mine"
    folder.mkdir(parents=True)
    for hostile in HOSTILE:
        shutil.copy(label, folder / f"{hostile}.json")
        shutil.copy(picture, folder / f"{hostile}.png")
    source = Source(Layout(tmp_path / "results"))
    exported = export(source, [name], tmp_path / "out")[0]
    assert (exported.remarks.n_images, source.failed) == (len(HOSTILE), {})
    pictures = list(exported.folder.rglob("*.png"))
    assert len(pictures) in (0, len(HOSTILE))
    if name == "labelstudio":
        tasks = json.loads((exported.folder / "tasks.json").read_text())
        served = {unquote(task["data"]["image"].split("?d=")[1]) for task in tasks}
        assert served == {f"images/{path.name}" for path in pictures}


def test_material_groups_are_categories(own, tmp_path):
    with pytest.raises(ResultsError, match="no material groups; run `hvlabel materials"):
        export(Source(own, category="material"), ["coco"], tmp_path / "out")
    groups, _ = group_materials(own, "d", 3)
    write_materials(own, groups)
    folder = export(Source(own, category="material"), ["coco"], tmp_path / "out")[0].folder
    document = json.loads((folder / "annotations/instances_default.json").read_text())
    assert [c["name"] for c in document["categories"]] == ["d material 0", "d material 1", "d material 2"]
    stored = [a["category_id"] - 1 for a in document["annotations"]]
    assert stored == [*groups.groups["vis31_00"], *groups.groups["vis31_01"]]
