"""Masks of other tools as a branch of their own, pixel for pixel: `prompts.backend: drawn`."""

import json
import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from verbs import hvlabel

from hvlabel.branches.prompts import PromptsSettings
from hvlabel.cache.index import read_index
from hvlabel.exports import export
from hvlabel.exports.source import Source
from hvlabel.imports import import_prompts
from hvlabel.inspect.summary import summarise
from hvlabel.layout import Layout
from hvlabel.manifest import Scan, read_manifest
from hvlabel.masks import decode, encode, read_document, read_masks
from hvlabel.viewer.page import build_page

DRAWN = '{"backend": "drawn"}'
IMAGES = ("vis31_00", "vis31_01")
SIDE = 64


@pytest.fixture
def own(layout, tmp_path):
    """A copy to import into."""
    shutil.copytree(layout.root, tmp_path / "results")
    return Layout(tmp_path / "results")


def name_files(layout, files):
    """Let the manifest name a file of masks for each image, as a scan with a rule `prompts` does."""
    rows = [replace(row, prompts=str(files[row.image_id]), prompts_stamp="s") for row in read_manifest(layout.manifest)]
    layout.manifest.write_bytes(Scan(tuple(rows), ()).table().encode())


def segment(layout):
    """The branch and the label of it alone, as a run makes them."""
    shard = ("--shard", "d/0000", "--results", layout.root)
    said = hvlabel("segment", "prompts", *shard, "--settings", DRAWN)
    fusion = json.dumps({"branches": ["prompts"], "ranking": "votes"})
    assert hvlabel("fuse", *shard, "--settings", fusion).status == 0
    return said


def pixels(path):
    """The masks of a file, in no order."""
    return sorted(rle["counts"] for rle in read_masks(path).rles)


def test_a_label_goes_to_coco_and_back_through_the_fusion_pixel_for_pixel(own, tmp_path):
    folder = export(Source(own), ["coco"], tmp_path / "out")[0].folder
    labels = {name: pixels(own.label("d", name)) for name in IMAGES}
    scores = {name: [mask.score for mask in read_masks(own.label("d", name)).masks] for name in IMAGES}
    taken = import_prompts(own, folder / "annotations/instances_default.json")
    assert "`prompts: {backend: drawn}` takes them as they are" in taken.sentences[-1]
    name_files(own, {name: own.drawn("d", name) for name in IMAGES})
    assert segment(own).status == 0
    for name in IMAGES:
        assert pixels(own.masks("prompts", "d", name)) == labels[name]
        assert pixels(own.label("d", name)) == labels[name]
        branch = read_masks(own.masks("prompts", "d", name))
        assert [mask.score for mask in branch.masks] == scores[name]
        assert {(mask.branch, mask.extra["name"]) for mask in branch.masks} == {("prompts", "object")}
    assert re.search(rb'"name": ?"object"', build_page(own, "d", "vis31_00"))  # shown beside score and votes


def test_provenance_report_and_page_say_where_the_masks_come_from(own):
    import_prompts(own, own.labels)
    name_files(own, {name: own.drawn("d", name) for name in IMAGES})
    segment(own)
    document = read_document(own.masks("prompts", "d", "vis31_00"))
    provenance = document["provenance"]
    assert (provenance["backend"], provenance["learned_model"]) == ("drawn", False)
    assert provenance["settings"] == {"backend": "drawn"}  # nothing else is read
    assert provenance["drawn_in"]["file"] == "vis31_00.json"
    assert document["annotations"][0]["picture"] == "drawn"
    assert '"file": "vis31_00.json"' in hvlabel("info", own.masks("prompts", "d", "vis31_00")).out
    assert "imported_from" in hvlabel("info", own.drawn("d", "vis31_00")).out
    label = read_document(own.label("d", "vis31_00"))["provenance"]["branches"]["prompts"]
    assert label["drawn_in"] == provenance["drawn_in"]
    run = summarise(own)
    assert "prompts: drawn" in run.backends
    assert run.caution == "No learned model was used: all masks are as people drew them."
    assert b"masks of prompts are taken from vis31_00.json as they are" in build_page(own, "d", "vis31_00")


def test_another_file_makes_the_masks_anew_and_the_same_does_not(own):
    import_prompts(own, own.labels)
    name_files(own, {name: own.drawn("d", name) for name in IMAGES})
    segment(own)
    before = own.masks("prompts", "d", "vis31_00").stat().st_mtime_ns
    segment(own)
    assert own.masks("prompts", "d", "vis31_00").stat().st_mtime_ns == before
    name_files(own, {"vis31_00": own.drawn("d", "vis31_01"), "vis31_01": own.drawn("d", "vis31_01")})
    segment(own)
    assert pixels(own.masks("prompts", "d", "vis31_00")) == pixels(own.masks("prompts", "d", "vis31_01"))


SQUARE = np.zeros((SIDE, SIDE), np.uint8)
SQUARE[4:20, 6:30] = 3
SQUARE[40:50, 40:50] = 7


def one(segmentation=None, **more):
    """A COCO file of one object in vis31_00."""
    image = {"id": 1, "file_name": "vis31_00.png", "width": SIDE, "height": SIDE, **more.pop("image", {})}
    held = {} if segmentation is None else {"segmentation": segmentation}
    return json.dumps({"images": [image], "annotations": [{"id": 5, "image_id": 1, **held, **more}]})


POLYGON = [[6, 4, 30, 4, 30, 20, 6, 20]]
HALF = {"size": [SIDE, SIDE], "counts": [SIDE * SIDE // 2, SIDE * SIDE // 2]}


@pytest.fixture
def drawn(layout, tmp_path):
    """Segments the first image by a file of this name and content: what was said, and the masks' path."""

    def run(name, content):
        file, out = tmp_path / name, tmp_path / "out.json"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        cube = layout.cube("d", "vis31_00")
        return hvlabel("segment", "prompts", cube, out, "--boxes", file, "--settings", DRAWN), out

    return run


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_label_images_are_taken_value_by_value(drawn, suffix):
    content = cv2.imencode(suffix, SQUARE)[1].tobytes()
    said, out = drawn("mine" + suffix, content)
    assert said.status == 0, said.err
    by_value = {mask.extra["prompt"]: decode(mask.rle) for mask in read_masks(out).masks}
    assert by_value.keys() == {"3", "7"}
    for value, mask in by_value.items():
        np.testing.assert_array_equal(mask, int(value) == SQUARE)


@pytest.mark.parametrize("more", [{}, {"score": None}, {"bbox": [0, 0, 9999, 9999]}, {"bbox": [6, 4, 0, 0]}])
def test_polygons_are_filled_and_their_box_does_not_count(drawn, more):
    said, out = drawn("c.json", one(POLYGON, **more))
    assert said.status == 0, said.err
    (mask,) = read_masks(out).masks
    np.testing.assert_array_equal(decode(mask.rle), SQUARE == 3)
    assert (mask.score, mask.extra["prompt"]) == (1.0, "5")


@pytest.mark.parametrize(
    ("more", "score"), [({"score": 0.25}, 0.25), ({"predicted_iou": 0.75}, 0.75), ({"predicted_iou": 1.03}, 1.0)]
)
def test_the_score_is_what_the_file_says(drawn, more, score):
    _, out = drawn("c.json", one(HALF, **more))
    assert [mask.score for mask in read_masks(out).masks] == [score]


@pytest.mark.parametrize(
    ("name", "content"),
    [("c.json", one(None).replace('[{"id": 5, "image_id": 1}]', "[]")), ("m.png", cv2.imencode(".png", 0 * SQUARE)[1])],
)
def test_a_file_that_marks_nothing_gives_no_masks(drawn, name, content):
    said, out = drawn(name, bytes(content) if name == "m.png" else content)
    assert said.status == 0, said.err
    assert len(read_masks(out)) == 0


TWO = (
    one(HALF).replace('"images": [', '"images": [{"id": 2, "file_name": "else.png"}, ').replace("vis31_00.png", "n.png")
)
BOX = [1, 1, 5, 5]
REFUSED = [
    ("c.json", one(bbox=BOX), r"annotations\[0\] \(id 5\): a box or points without a mask"),
    ("c.json", '{"points": [[3, 4]]}', r"points\[0\]: a box or points without a mask.*choose backend sam"),
    ("b.csv", "x0,y0,x1,y1\n1,1,5,5\n", "line 2: a box or points without a mask"),
    ("b.txt", "0 .5 .5 .1 .1\n", "line 1: a box or points without a mask"),
    ("c.json", "", "not JSON"),
    ("m.png", b"", "not a PNG file"),
    (
        "m.png",
        cv2.imencode(".png", SQUARE[:9])[1].tobytes(),
        "is of an image of 64 x 9 px, but the image has 64 x 64 px",
    ),
    ("c.json", one(HALF, image={"width": 9}), "is of an image of 9 x 64 px"),
    ("c.json", one({"size": [9, 9], "counts": [40, 41]}), "its mask is of an image of 9 x 9 px"),
    ("c.json", one({"size": [9, 9], "counts": [40, 41]}, bbox=BOX), r"the mask of annotation 0 is of \[9, 9\]"),
    ("c.json", one({**HALF, "counts": [1, 2]}, bbox=BOX), "the run lengths of annotation 0 do not fill the image"),
    ("c.json", one({**HALF, "counts": [SIDE * SIDE]}, bbox=BOX), "the mask marks no pixel"),
    ("c.json", TWO, "none of its images matches 'vis31_00'"),
    ("c.json", one(HALF, score=87), r"the score 87 is outside \[0, 1\]"),
    ("c.json", one(HALF, score="high"), "is not a finite number"),
]


@pytest.mark.parametrize(("name", "content", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_cannot_be_taken_is_one_sentence(drawn, name, content, message):
    said, out = drawn(name, content)
    assert said.status == 2
    assert len(said.err.strip().splitlines()) == 1
    assert not out.exists()
    assert re.search(message, said.err)


def test_a_box_without_a_mask_fails_its_image_alone(own, tmp_path):
    (tmp_path / "box.json").write_text('{"boxes": [[1, 1, 5, 5]]}')
    import_prompts(own, own.labels)
    name_files(own, {"vis31_00": tmp_path / "box.json", "vis31_01": own.drawn("d", "vis31_01")})
    segment(own)
    images = read_index(own.index("prompts", "d", "0000")).images
    assert [images[name].status for name in IMAGES] == ["failed", "ok"]
    assert "boxes[0]: a box or points without a mask" in images["vis31_00"].reason


def test_no_network_is_loaded_and_no_other_key_changes():
    drawn = PromptsSettings(backend="drawn", sam={"checkpoint": "random:1"}, n_composites=5)
    assert drawn.network() is None
    assert drawn.canonical() == '{"backend":"drawn","version":1}'
    sam = PromptsSettings(backend="sam")
    assert sam.relevant().keys() == {"backend", "sam", "generator", "n_composites", "network_masks"}


def test_overlapping_masks_stay_as_they_are(drawn):
    """What the fusion would call copies are still two masks of the branch."""
    whole, part = (encode(np.pad(np.ones((n, 20), bool), ((4, 60 - n), (4, 40)))) for n in (20, 19))
    held = [
        {"id": k, "image_id": 1, "segmentation": {**r, "counts": r["counts"].decode()}}
        for k, r in enumerate((whole, part))
    ]
    image = {"id": 1, "file_name": "vis31_00"}
    _, out = drawn("c.json", json.dumps({"images": [image], "annotations": held}))
    assert pixels(out) == sorted([whole["counts"], part["counts"]])
