"""Exports read by the tools that they are for, with their own loaders; what is not installed skips its test."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
import zarr
from pycocotools import mask as coco_mask

from hvlabel.exports.image import label_image, n_holes, rings
from hvlabel.masks import decode, read_masks

# what other people's packages deprecate is theirs
pytestmark = pytest.mark.filterwarnings("ignore")

SIDE = 64
AROUND = np.ones((3, 3), np.uint8)
TRAINED_PX = 640  # the side that ultralytics trains on unless it is told otherwise


@pytest.fixture(scope="module")
def label_sets(layout):
    """The labels by the names that pictures have in exports."""
    return {f"d__{name}": read_masks(layout.label("d", name)) for name in ("vis31_00", "vis31_01")}


@pytest.fixture(scope="module")
def labels(label_sets):
    """Of each image the (N, H, W) bool masks."""
    return {name: np.array([decode(rle) for rle in label.rles]) for name, label in label_sets.items()}


def require_equal(read, labels):
    """Every mask came back, pixel for pixel. read: of each image its masks, in the label's order."""
    assert read.keys() == labels.keys()
    for name, masks in labels.items():
        np.testing.assert_array_equal(np.array(read[name], bool), masks)


def in_order(read):
    """The masks of each image by their pixels."""
    return {name: sorted(masks, key=lambda mask: mask.tobytes()) for name, masks in read.items()}


def require_filled(read, labels):
    """The same, but for holes, which formats with one polygon per object fill."""
    assert read.keys() == labels.keys()
    for name, masks in labels.items():
        for mask, stored in zip(masks, np.array(read[name], bool), strict=True):
            assert not (mask & ~stored).any()
            assert n_holes(mask) or np.array_equal(mask, stored)


def test_supervision_reads_coco(written, labels):
    sv = pytest.importorskip("supervision", reason="supervision is not installed: pip install supervision")
    folder = written("coco")
    annotations = str(folder / "annotations/instances_default.json")
    read = sv.DetectionDataset.from_coco(str(folder / "images/default"), annotations, force_masks=True)
    require_equal({Path(path).stem: found.mask for path, _, found in read}, labels)


def test_supervision_reads_yolo(written, labels):
    sv = pytest.importorskip("supervision", reason="supervision is not installed: pip install supervision")
    folder = written("yolo")
    places = [str(folder / name) for name in ("images/train", "labels/train", "data.yaml")]
    read = {Path(path).stem: found.mask for path, _, found in sv.DetectionDataset.from_yolo(*places, force_masks=True)}
    assert read.keys() == labels.keys()
    for name, masks in labels.items():
        assert len(read[name]) == len(masks)
        # it rounds corners, which lie between pixels, and paints what they round to
        for mask, stored in zip(masks, read[name], strict=True):
            smaller, larger = (change(mask.astype(np.uint8), AROUND) > 0 for change in (cv2.erode, cv2.dilate))
            assert not (smaller & ~stored).any()
            # holes it fills, and bridges between pieces it paints
            assert len(rings(mask)) > 1 or not (stored & ~larger).any()


def test_ultralytics_trains_on_the_masks(written, labels, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    utils = pytest.importorskip(
        "ultralytics.data.utils", reason="ultralytics is not installed: pip install ultralytics"
    )
    from ultralytics.data.dataset import YOLODataset

    folder = written("yolo")
    data = utils.check_det_dataset(folder / "data.yaml", autodownload=False)
    read = YOLODataset(img_path=data["train"], data=data, task="segment", augment=False)
    for image in read.labels:
        name = Path(image["im_file"]).stem
        masks = labels[name]
        # two masks that only a hole tells apart are one line twice, which it reads once
        assert len(image["segments"]) == len(set((folder / f"labels/train/{name}.txt").read_text().splitlines()))
        drawn = [utils.polygon2mask((TRAINED_PX,) * 2, [(s * TRAINED_PX).ravel()]) for s in image["segments"]]
        reduced = [cv2.resize(m.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0.5 for m in drawn]
        stored = np.array(reduced).reshape(len(reduced), -1).astype(np.float32)
        flat = masks.reshape(len(masks), -1).astype(np.float32)
        common = flat @ stored.T
        iou = common / (flat.sum(axis=1)[:, None] + stored.sum(axis=1) - common)
        whole = [n_holes(mask) == 0 for mask in masks]
        assert iou.max(axis=1)[whole].mean() > 0.98


def test_datasets_reads_pictures_and_masks(written, labels, tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install datasets")
    read = {}
    for row in datasets.load_dataset(str(written("huggingface")), cache_dir=str(tmp_path))["train"]:
        size = [row["height"], row["width"]]
        assert row["image"].size == (row["width"], row["height"])
        runs = [{"size": size, "counts": counts.encode()} for counts in row["objects"]["counts"]]
        read[f"{row['dataset']}__{row['name']}"] = coco_mask.decode(runs).transpose(2, 0, 1)
    require_equal(read, labels)


def test_cvat_writes_and_reads_the_same_run_lengths(written, labels):
    cvat = pytest.importorskip("cvat_sdk.masks", reason="cvat-sdk is not installed: pip install cvat-sdk")
    read = {}
    for image in ET.parse(written("cvat") / "annotations.xml").getroot().iter("image"):
        name = Path(image.get("name")).stem
        read[name] = []
        for element, mask in zip(image.iter("mask"), labels[name], strict=True):
            left, top, width, height = (int(element.get(side)) for side in ("left", "top", "width", "height"))
            ours = [*map(int, element.get("rle").split(",")), left, top, left + width - 1, top + height - 1]
            assert ours == cvat.encode_mask(mask, [left, top, left + width, top + height])
            read[name].append(cvat.decode_mask(ours, image_width=SIDE, image_height=SIDE))
    require_equal(read, labels)


def test_label_studio_takes_the_tasks_and_hands_them_on_as_coco(written, labels, tmp_path):
    sdk = pytest.importorskip(
        "label_studio_sdk.label_interface", reason="no label-studio-sdk: pip install label-studio-sdk"
    )
    from label_studio_sdk.converter import Converter

    folder = written("labelstudio")
    config = (folder / "config.xml").read_text()
    interface = sdk.LabelInterface(config)
    interface.validate()
    tasks = json.loads((folder / "tasks.json").read_text())
    for k, task in enumerate(tasks):
        assert interface.validate_task({"data": task["data"]})
        assert all(map(interface.validate_prediction, task["predictions"]))
        # what a person who accepts all of it would have made
        task |= {"id": k, "annotations": [{"id": k, "completed_by": 1, "result": task["predictions"][0]["result"]}]}
    (tmp_path / "accepted.json").write_text(json.dumps(tasks))
    converter = Converter(config, project_dir=str(tmp_path), download_resources=False)
    converter.convert_to_coco(str(tmp_path / "accepted.json"), str(tmp_path / "coco"), is_dir=False)
    content = json.loads((tmp_path / "coco/result.json").read_text())
    read = {}
    for image in content["images"]:
        polygons = [a["segmentation"] for a in content["annotations"] if a["image_id"] == image["id"]]
        name = Path(image["file_name"]).stem.removeprefix("?d=images/")
        read[name] = [coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(p, SIDE, SIDE))) for p in polygons]
    require_filled(read, labels)


@pytest.mark.parametrize(
    ("name", "place", "format_name"),
    [
        ("coco", ".", "coco_instances"),
        ("datumaro", ".", "datumaro"),
        ("cvat", "annotations.xml", "cvat"),
    ],
)
def test_datumaro_imports_every_mask(written, labels, name, place, format_name):
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed: pip install datumaro")
    read = {}
    for item in datumaro.Dataset.import_from(str(written(name) / place), format_name):
        masks = [a for a in item.annotations if a.type == datumaro.AnnotationType.mask]
        read[Path(item.id).name] = [np.array(mask.image, bool) for mask in masks]
    # it keeps no order
    require_equal(in_order(read), in_order(labels))


def test_napari_shows_picture_and_masks(written, label_sets):
    components = pytest.importorskip("napari.components", reason="napari is not installed: pip install napari")
    folder = written("ngff")
    viewer = components.ViewerModel()  # a viewer without its window
    for name, label in label_sets.items():
        dataset, image = name.split("__")
        group = zarr.open_group(folder / dataset / f"{image}.ome.zarr", mode="r")
        picture = viewer.add_image(group["0"][:].transpose(1, 2, 0), rgb=True)
        layer = viewer.add_labels(group["labels/masks/0"][:])
        assert picture.rgb
        np.testing.assert_array_equal(layer.data, label_image(label)[0])


@pytest.mark.slow  # FiftyOne takes a minute to import
def test_fiftyone_imports_every_mask(written, labels, tmp_path, monkeypatch):
    monkeypatch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path))
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
    coco = pytest.importorskip("fiftyone.utils.coco", reason="fiftyone is not installed: pip install fiftyone")
    with coco.COCODetectionDatasetImporter(str(written("fiftyone")), label_types="segmentations") as importer:
        read = {}
        for path, _, found in importer:
            detections = found["segmentations"].detections if isinstance(found, dict) else found.detections
            read[Path(path).stem] = [_placed(one) for one in detections]
    require_equal(read, labels)


def _placed(detection):
    """(H, W) bool of a detection of FiftyOne, whose mask is that of its box."""
    left, top = (round(share * SIDE) for share in detection.bounding_box[:2])
    height, width = detection.mask.shape
    whole = np.zeros((SIDE, SIDE), bool)
    whole[top : top + height, left : left + width] = detection.mask
    return whole
