"""Every format: read back by the library that it is for, it holds the label."""

import csv
import json
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import xarray
import yaml
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage
from skimage.measure import points_in_poly

from hvlabel.exports.formats.cvat import run_lengths
from hvlabel.exports.image import ExportImage, label_image, n_holes, one_ring, rings
from hvlabel.exports.table import NAMES
from hvlabel.masks import MaskSet, decode, read_masks

IMAGES = ("vis31_00", "vis31_01")
MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any)
GEO = ("geojson", "gpkg")


@pytest.fixture(scope="module")
def labels(layout):
    """Of each image the (N, H, W) bool masks of its label."""
    return {name: [decode(rle) for rle in read_masks(layout.label("d", name)).rles] for name in IMAGES}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in GEO])
def test_every_format_counts_all_masks(written, labels, name):
    facts = json.loads((written(name) / "export.json").read_text())
    assert (facts["format"], facts["images"], facts["failed"]) == (name, 2, {})
    assert facts["masks"] == sum(map(len, labels.values()))


@pytest.mark.parametrize("name", ["coco", "fiftyone"])
def test_coco_is_the_label(written, labels, name):
    file = {"coco": "annotations/instances_default.json", "fiftyone": "labels.json"}[name]
    coco = COCO(written(name) / file)
    assert len(set(coco.getAnnIds())) == sum(map(len, labels.values()))
    for image in coco.loadImgs(coco.getImgIds()):
        stored = [coco.annToMask(a) for a in coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))]
        assert np.array_equal(np.array(stored, bool), labels[image["name"]])


def test_coco_scores_itself_with_one(written):
    coco = COCO(written("coco") / "annotations/instances_default.json")
    found = coco.loadRes([{**a, "score": a["quality"]} for a in coco.loadAnns(coco.getAnnIds())])
    evaluation = COCOeval(coco, found, "segm")
    evaluation.params.maxDets = [1, 10, 1000]  # the default of 100 leaves some out
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, -1]  # all areas
    assert precision.min() == pytest.approx(1)


def test_pictures_lie_where_coco_says(written, layout):
    folder = written("coco")
    coco = COCO(folder / "annotations/instances_default.json")
    for image in coco.loadImgs(coco.getImgIds()):
        stored = (folder / "images/default" / image["file_name"]).read_bytes()
        assert stored == layout.label(image["dataset"], image["name"]).with_suffix(".png").read_bytes()


def test_cvat_masks_are_the_label(written, labels):
    root = ET.parse(written("cvat") / "annotations.xml").getroot()
    for image in root.iter("image"):
        name = image.get("name").removeprefix("d__").removesuffix(".png")
        for element, mask in zip(image.iter("mask"), labels[name], strict=True):
            left, top, width, height = (int(element.get(key)) for key in ("left", "top", "width", "height"))
            runs = [int(n) for n in element.get("rle").split(",")]
            values = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
            whole = np.zeros_like(mask)
            whole[top : top + height, left : left + width] = values
            assert np.array_equal(whole, mask)


@given(MASKS)
def test_run_lengths_begin_with_background_and_fill_the_box(mask):
    runs = run_lengths(mask)
    assert sum(runs) == mask.size
    assert all(runs[1:])
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs), mask.ravel())


@given(MASKS)
def test_outlines_hold_exactly_the_pixels_of_a_mask(mask):
    outlines = rings(mask)
    assert np.array_equal(inside_of(outlines, mask.shape), mask)


@given(MASKS)
def test_one_ring_holds_them_with_filled_holes(mask):
    # pixels that touch at a corner are pieces of their own, so the outside reaches through corners
    filled = ndimage.binary_fill_holes(mask, structure=np.ones((3, 3)))
    assert np.array_equal(inside_of([one_ring(mask)], mask.shape), filled)


def inside_of(outlines, shape):
    """(H, W) bool: pixels whose centre lies in an odd number of rings."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    parity = sum(points_in_poly(centres, ring).astype(int) for ring in outlines)
    return parity.reshape(shape) % 2 == 1


def test_a_hole_is_one():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    assert n_holes(mask) == 1
    assert n_holes(np.eye(4, dtype=bool)) == 0


def test_yolo_polygons_cover_the_label(written, labels):
    folder = written("yolo")
    names = yaml.safe_load((folder / "data.yaml").read_text())["names"]
    assert names == {0: "object"}
    for name, masks in labels.items():
        lines = (folder / "labels/train" / f"d__{name}.txt").read_text().splitlines()
        size = np.array(masks[0].shape[::-1])
        for line, mask in zip(lines, masks, strict=True):
            category, *numbers = line.split()
            ring = np.array(numbers, float).reshape(-1, 2) * size
            found = inside_of([ring], mask.shape)
            filled = ndimage.binary_fill_holes(mask, structure=np.ones((3, 3)))
            assert category == "0"
            assert np.count_nonzero(found != filled) <= 0.02 * filled.sum() + 2  # corners have six digits


def test_label_studio_has_a_region_per_mask(written, labels):
    folder = written("labelstudio")
    tasks = json.loads((folder / "tasks.json").read_text())
    for task in tasks:
        regions = task["predictions"][0]["result"]
        assert len(regions) == len(labels[task["data"]["name"]])
        points = np.concatenate([region["value"]["points"] for region in regions])
        assert points.min() >= 0
        assert points.max() <= 100  # percent
        picture = task["data"]["image"].split("?d=")[1]
        assert (folder / picture).is_file()
    assert ET.parse(folder / "config.xml").find(".//Label").get("value") == "object"


def test_datumaro_json_is_the_label(written, labels):
    document = json.loads((written("datumaro") / "annotations/default.json").read_text())
    for item in document["items"]:
        stored = [coco_mask.decode(annotation["rle"]) for annotation in item["annotations"]]
        assert np.array_equal(np.array(stored, bool), labels[item["id"].removeprefix("d__")])


def test_datumaro_keeps_every_mask(written, layout, labels, tmp_path):
    dm = pytest.importorskip("datumaro", reason="datumaro pins older pandas and pillow than this project")
    n_masks = sum(map(len, labels.values()))
    for name in ("coco", "cvat", "datumaro"):
        assert count(dm.Dataset.import_from(str(written(name)), name)) == n_masks
    assert count(dm.Dataset.import_from(str(layout.labels / "d"), "segment_anything")) == n_masks


def count(dataset):
    return sum(annotation.type.name == "mask" for item in dataset for annotation in item.annotations)


def test_parquet_has_a_row_per_mask(written, labels):
    table = pq.read_table(written("parquet") / "masks.parquet").to_pylist()
    for name, masks in labels.items():
        rows = [row for row in table if row["image"] == name]
        rles = [{"size": [row["height_px"], row["width_px"]], "counts": row["counts"].encode()} for row in rows]
        assert np.array_equal(np.array([coco_mask.decode(rle) for rle in rles], bool), masks)
        assert [row["area_px"] for row in rows] == [mask.sum() for mask in masks]


def test_huggingface_rows_hold_pictures_and_objects(written, layout, labels):
    table = pq.read_table(written("huggingface") / "data/train-00000-of-00001.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features.keys() == set(table.column_names)
    for row in table.to_pylist():
        picture = cv2.imdecode(np.frombuffer(row["image"]["bytes"], np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[:2] == (row["height"], row["width"])
        assert len(row["objects"]["counts"]) == len(labels[row["name"]])


def test_label_images_show_the_best_mask(written, labels):
    folder = written("labels-tif")
    with (folder / "masks.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, masks in labels.items():
        values = tifffile.imread(folder / "d" / f"{name}.tif")
        expected = np.zeros(values.shape, int)
        for k, mask in enumerate(masks):
            expected[(expected == 0) & mask] = k + 1  # those before are better
        assert np.array_equal(values, expected)
        visible = {int(row["value"]): int(row["visible_px"]) for row in rows if row["image"] == name}
        assert visible == {k + 1: int((values == k + 1).sum()) for k in range(len(masks))}


def test_what_is_hidden_is_said(written, layout):
    hidden = sum(label_image(read_masks(layout.label("d", name)))[1] for name in IMAGES)
    remarks = json.loads((written("labels-tif") / "export.json").read_text())["remarks"]
    assert remarks == ([f"{hidden} masks are hidden: each pixel shows the best mask there"] if hidden else [])


def test_ngff_opens_in_xarray_and_says_what_it_is(written, layout):
    for name in IMAGES:
        path = written("ngff") / "d" / f"{name}.ome.zarr"
        picture = xarray.open_zarr(path, consolidated=False)["0"]
        masks = xarray.open_zarr(path / "labels" / "masks", consolidated=False)["0"]
        expected, _ = label_image(read_masks(layout.label("d", name)))
        assert picture.dims == ("c", "y", "x")
        assert np.array_equal(masks, expected)
        ome = dict(zarr.open_group(path, mode="r").attrs)["ome"]
        assert ome["version"] == "0.5"
        assert [axis["name"] for axis in ome["multiscales"][0]["axes"]] == ["c", "y", "x"]


def test_names_of_files_are_unique_whatever_data_sets_are_called():
    pairs = [("a", "b__c"), ("a__b", "c"), ("a_", "_c"), ("a__", "c"), ("a", "c"), ("a", "_c"), ("a_", "c")]
    names = [ExportImage(1, d, n, MaskSet(4, 4, ()), (), (), b"", None).flat_name for d, n in pairs]
    assert len(set(names)) == len(pairs)
    assert names[4] == "a__c"
