"""Annotation files by hand: what each format means, and what counts as empty."""

import numpy as np
import pytest
from annotation_files import H, W, boxes, coco_file, of_json, of_text, picture, tiff, voc_xml

from hvlabel.masks.rle import encode
from hvlabel.prompt_files import ObjectPrompt, PromptFileError


def test_coco_gives_the_objects_of_one_image(tmp_path):
    images = [{"id": 7, "file_name": "val/b.png"}, {"id": "8", "file_name": "val/a.png", "width": W, "height": H}]
    annotations = [
        {"id": 1, "image_id": 7, "bbox": [0, 0, 1000, 1000]},
        {"id": 2, "image_id": 8, "bbox": [3, 4, 3, 2], "category_id": 5, "keypoints": [1, 2, 2], "iscrowd": 0},
        {"id": 3, "image_id": "8", "bbox": [0, 0, 9, 9], "iscrowd": 1},
        {"id": 4, "image_id": "8", "bbox": None, "segmentation": [[1, 2, 9, 2, 5, 8], [0.5, 5, 2, 5, 2, 6]]},
        {"id": 5, "image_id": "8", "bbox": [1, 1, 2, 2], "category_id": 6},
    ]
    document = coco_file(annotations, images, categories=[{"id": 5, "name": "cat"}])
    for names in (["val/a.png"], ["a"], ["a.tif", "x"]):
        assert of_json(tmp_path, document, names) == [
            ObjectPrompt((3, 4, 6, 6), name="cat", object_id="2"),
            ObjectPrompt((0.5, 2, 9, 8), name=None, object_id="4"),
            ObjectPrompt((1, 1, 3, 3), name="6", object_id="5"),
        ]


def test_whole_names_go_before_stems(tmp_path):
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.tif"}, {"id": 3}]
    document = coco_file([{"id": k, "image_id": k, "bbox": [k, 0, 1, 1]} for k in (1, 2, 3)], images)
    assert boxes(of_json(tmp_path, document, ["a.tif"])) == [(2, 0, 3, 1)]
    assert boxes(of_json(tmp_path, document, ["3"])) == [(3, 0, 4, 1)]  # an image without a name goes by its id
    with pytest.raises(PromptFileError, match="several of its images match 'a'"):
        of_json(tmp_path, document, ["a"])
    with pytest.raises(
        PromptFileError, match=r"none of its images matches 'A.png'; it knows 3 images: 'a.png', 'a.tif'"
    ):
        of_json(tmp_path, document, ["A.png"])
    with pytest.raises(PromptFileError, match=r"\(no name given\)"):
        of_json(tmp_path, document)


def test_a_number_after_a_dot_is_no_suffix(tmp_path):
    rows = "image,x,y\nscene.01,1,1\nscene.02,2,2\n"
    assert of_text(tmp_path, "a.csv", rows, ["scene.02.npy"])[0].points_xy == ((2, 2),)


def test_plain_boxes_and_points(tmp_path):
    document = {
        "boxes": [[0, 1, 2, 3]],
        "points": [[5, 6], [7, 8, 1], [[1, 2, 0], [3, 4, 1]]],
        "names": ["cat", None, "", "dog"],
    }
    assert of_json(tmp_path, document) == [
        ObjectPrompt((0, 1, 2, 3), name="cat", object_id="0"),
        ObjectPrompt(None, ((5, 6),), (1,), None, "1"),
        ObjectPrompt(None, ((7, 8),), (1,), None, "2"),
        ObjectPrompt(None, ((1, 2), (3, 4)), (0, 1), "dog", "3"),
    ]


def test_csv_of_points(tmp_path):
    table = "File\tX\tY\tLabel\tObject\na.png\t1\t2\t1\tq\nb.png\tno\tno\tno\tno\na.png\t3.5\t4\t0\tq\na.png\t5\t6\t1\tr\n\n"
    assert of_text(tmp_path, "a.csv", table, ["a"]) == [
        ObjectPrompt(None, ((1, 2), (3.5, 4)), (1, 0), None, "q"),
        ObjectPrompt(None, ((5, 6),), (1,), None, "r"),
    ]
    assert of_text(tmp_path, "a.csv", "x,y,name\n1,2,cat\n1,2,\n") == [
        ObjectPrompt(None, ((1, 2),), (1,), "cat", "0"),
        ObjectPrompt(None, ((1, 2),), (1,), None, "1"),
    ]


def test_csv_of_boxes_with_a_class_in_quotes(tmp_path):
    table = 'filename,width,height,class,xmin,ymin,xmax,ymax\na.png,60,40,"cat, grey",1,2,3,4\n'
    assert of_text(tmp_path, "a.csv", table) == [ObjectPrompt((1, 2, 3, 4), name="cat, grey", object_id="0")]


def test_yolo_classes_and_confidence(tmp_path):
    lines = "0 0.5 0.5 0.5 0.5 0.93\r\n\n 7 0.5 0.5 1.0005 1\n"
    assert of_text(tmp_path, "a.txt", lines) == [
        ObjectPrompt((15, 10, 45, 30), name="0", object_id="0"),
        ObjectPrompt((0, 0, 60, 40), name="7", object_id="1"),
    ]


def test_voc_counts_pixels_from_one(tmp_path):
    prompt = ObjectPrompt((3, 0, 6, 40), name="cat", object_id="0")
    assert of_text(tmp_path, "a.xml", voc_xml([(" cat ", (4, 1, 6, 40))])) == [prompt]


def test_a_file_of_this_project(tmp_path):
    mask = np.zeros((H, W), bool)
    mask[2:5, 7:9] = True
    rle = encode(mask)
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    image = {"image_id": "a", "width": W, "height": H, "file_name": "a.png"}
    document = {"image": image, "annotations": [{"id": 0, "segmentation": segmentation}], "provenance": {}}
    assert of_json(tmp_path, document) == [ObjectPrompt((7, 2, 9, 5), object_id="0")]


@pytest.mark.parametrize(
    ("over_px", "clipped"), [((-1, -0.5, 60.5, 41), (0, 0, 60, 40)), ((-1, 0, 1, 1), (0, 0, 1, 1))]
)
def test_a_pixel_over_the_edge_is_clipped(tmp_path, over_px, clipped):
    assert boxes(of_json(tmp_path, [list(over_px)])) == [clipped]


def test_points_on_the_edge_of_the_image(tmp_path):
    assert len(of_json(tmp_path, {"points": [[-0.5, -0.5], [W - 0.5, H - 0.5]]})) == 2


EMPTY = {
    "coco.json": '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": []}',
    "nothing.json": '{"images": [], "annotations": []}',
    "sa1b.json": '{"image": {}, "annotations": []}',
    "plain.json": '{"boxes": [], "names": []}',
    "list.json": "[]",
    "a.csv": "image,x0,y0,x1,y1\n",
    "a.txt": "",
    "blank.txt": "\n \n",
    "a.xml": "<annotation/>",
    "a.png": picture(np.zeros((H, W), np.uint8)),
    "a.tif": tiff(np.zeros((H, W), np.uint16)),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_file_without_objects_gives_none(tmp_path, name):
    assert of_text(tmp_path, name, EMPTY[name], ["a"]) == []
