"""`hvlabel import`: what an export wrote comes back as it was, as ground truth or as marks; what is wrong is named."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import yaml
from verbs import hvlabel

from hvlabel.errors import ConfigError, MaskFileError, ResultsError
from hvlabel.exports import export
from hvlabel.exports.image import label_image
from hvlabel.exports.source import Source
from hvlabel.imports import import_prompts, import_truth
from hvlabel.layout import Layout
from hvlabel.masks import decode, read_document, read_masks
from hvlabel.prompt_files import read_prompts

IMAGES = ("vis31_00", "vis31_01")


@pytest.fixture
def own(layout, tmp_path):
    """A copy to import into."""
    shutil.copytree(layout.root, tmp_path / "results")
    return Layout(tmp_path / "results")


def rles(path):
    return [rle["counts"] for rle in read_masks(path).rles]


@pytest.mark.parametrize("name", ["coco", "fiftyone"])
def test_a_label_comes_back_from_coco_as_it_was(own, tmp_path, name):
    folder = export(Source(own), [name], tmp_path / "out")[0].folder
    file = {"coco": "annotations/instances_default.json", "fiftyone": "labels.json"}[name]
    taken = import_truth(own, str(folder / file))
    assert (taken.n_images, taken.failed) == (2, {})
    for image in IMAGES:
        assert rles(own.truth("d", image)) == rles(own.label("d", image))
        assert own.truth("d", image) == own.own_truth("d", image)


def test_evaluate_scores_against_what_was_imported(own):
    """Labels as their own ground truth: every object is found. The demo's truth, which lies beside it, counts no more."""
    said = hvlabel("import", own.labels, "--as", "truth", "--results", own.root)
    assert said.status == 0, said.err
    assert hvlabel("evaluate", "--results", own.root, "--top", 1000).status == 0
    row = next(line for line in own.evaluation.read_text().splitlines() if line.startswith("all\tfused"))
    assert row.split("\t")[5:7] == ["1.000", "1.000"]  # AR and mean best IoU


def test_label_images_come_in(own, tmp_path):
    shutil.rmtree(own.root / "demo")
    expected, _ = label_image(read_masks(own.label("d", "vis31_00")))
    (tmp_path / "mine" / "d").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "mine/d/vis31_00.png"), expected)
    export(Source(own), ["labels-tif"], tmp_path / "tif")
    for folder in (tmp_path / "mine", tmp_path / "tif"):
        assert import_truth(own, folder).n_images >= 1
        stored = read_masks(own.truth("d", "vis31_00"))
        assert [decode(rle).sum() for rle in stored.rles] == [
            (expected == n).sum() for n in np.unique(expected[expected > 0])
        ]


def test_polygons_of_coco_are_masks(own, tmp_path):
    image = {"id": "a", "file_name": "some/folder/vis31_00.tif"}
    square = {"image_id": "a", "category_id": 3, "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10]]}
    document = {"images": [image], "annotations": [square], "categories": [{"id": 3, "name": "leaf"}]}
    (tmp_path / "c.json").write_text(json.dumps(document))
    assert import_truth(own, tmp_path / "c.json").n_masks == 1
    stored = read_document(own.truth("d", "vis31_00"))
    assert [(a["area"], a["name"]) for a in stored["annotations"]] == [(64, "leaf")]
    assert stored["provenance"]["imported_from"]["path"].endswith("c.json")


def test_marks_are_written_for_the_branch_and_the_lines_said(own, demo_run):
    taken = import_prompts(own, own.labels)
    assert taken.n_images == 2
    written = own.drawn("d", "vis31_00")
    assert len(read_prompts(written, 64, 64)) == len(read_masks(own.label("d", "vis31_00")))
    lines = "\n".join(taken.sentences[1:-1])
    rule = yaml.safe_load(lines)
    tree = yaml.safe_load((demo_run / "c.yaml").read_text())
    tree["datasets"] = {"d": {"root": str(own.root / "demo/d/raw"), "descriptor": descriptor(), **rule}}
    tree["results"] = str(own.root.parent / "other")
    (own.root.parent / "c.yaml").write_text(yaml.safe_dump(tree))
    said = hvlabel("scan", "--config", own.root.parent / "c.yaml")
    assert said.status == 0, said.text
    manifest = (own.root.parent / "other/manifest.tsv").read_text()
    assert str(written) in manifest


def descriptor():
    """As a user writes it for the demo's files."""
    from hvlabel.demo.cameras import CAMERAS

    return {**CAMERAS["vis31"].descriptor.model_dump(exclude_defaults=True), "files": "*.mat"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable JSON"),
        ("[]", "neither COCO"),
        ('{"images": [{"id": 1, "file_name": "other.png"}], "annotations": []}', "no image is called 'other.png'"),
        ('{"images": [1], "annotations": []}', "damaged COCO"),
        ('{"images": [], "annotations": [{}]}', "damaged COCO"),
        (
            '{"images": [{"id": 1, "file_name": "vis31_00"}], "annotations": [{"image_id": 1, "segmentation": [[1, 2]]}]}',
            "has no three points",
        ),
        (
            '{"images": [{"id": 1, "file_name": "vis31_00"}], "annotations": [{"image_id": 1, "segmentation": '
            '{"size": [3, 3], "counts": [9]}}]}',
            "the image of [64, 64]",
        ),
    ],
)
def test_what_is_wrong_is_named_and_nothing_written(own, tmp_path, content, message):
    (tmp_path / "bad.json").write_text(content)
    taken = import_truth(own, tmp_path / "bad.json")
    assert message in " ".join(taken.failed.values())
    assert not (own.root / "truth").exists()
    said = hvlabel("import", tmp_path / "bad.json", "--as", "truth", "--results", own.root)
    assert (said.status, "nothing was imported" in said.err) == (2, True)


def test_boxes_are_no_masks(own, tmp_path):
    box = {"image_id": 1, "bbox": [1, 1, 5, 5]}
    (tmp_path / "c.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "vis31_00"}], "annotations": [box]}))
    assert "no mask among them; boxes and points are read by" in " ".join(
        import_truth(own, tmp_path / "c.json").failed.values()
    )


def test_one_bad_file_of_a_folder_is_named_and_the_rest_taken(own, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(own.labels / "d", folder)
    (folder / "vis31_00.json").write_text("{")
    taken = import_truth(own, folder)
    assert taken.n_images == 1
    assert len(taken.failed) == 1


def test_an_image_twice_is_named(own, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(own.labels / "d", tmp_path / "in" / name / "d")
    taken = import_truth(own, tmp_path / "in")
    assert taken.n_images == 2
    assert all(re.search(r"d/vis31_0\d is in .* already", reason) for reason in taken.failed.values())


def test_refusals(own, tmp_path):
    with pytest.raises(MaskFileError, match="no masks there"):
        import_truth(own, tmp_path / "gone")
    with pytest.raises(ConfigError, match="no image of that data set; there are d"):
        import_truth(own, own.labels, "x")
    with pytest.raises(ResultsError, match="no results here"):
        import_truth(Layout(tmp_path / "gone"), own.labels)


def coco_of(tmp_path, polygon, **image):
    content = {
        "images": [{"id": 1, "file_name": "vis31_00.png", **image}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [polygon]}],
        "categories": [{"id": 1, "name": "object"}],
    }
    path = tmp_path / "c.json"
    path.write_text(json.dumps(content))
    return path


def test_polygons_drawn_on_another_size_are_refused(own, tmp_path):
    taken = import_truth(own, coco_of(tmp_path, [1, 1, 9, 1, 9, 9], height=512, width=256))
    assert taken.n_images == 0
    assert "drawn on an image of 256 x 512 px, this one has 64 x 64" in next(iter(taken.failed.values()))


@pytest.mark.parametrize("corner", [float("nan"), float("inf"), 1e10, -1e9, None, "1"])
def test_corners_that_are_nowhere_are_refused(own, tmp_path, corner):
    taken = import_truth(own, coco_of(tmp_path, [corner, 1, 9, 1, 9, 9]))
    assert taken.n_images == 0
    assert "a corner that is no number or far outside" in next(iter(taken.failed.values()))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"annotations": [], "images": [{"id": [1]}]}'])
def test_content_that_is_no_coco_is_one_sentence(own, tmp_path, content):
    (tmp_path / "c.json").write_text(content)
    said = hvlabel("import", tmp_path / "c.json", "--as", "truth", "--results", own.root)
    assert said.status == 2
    assert "Traceback" not in said.text
