"""JSON that is no annotation file, boxes and points that cannot be meant: one sentence each."""

import pytest
from annotation_files import H, W, coco_file, of_json, of_text

from hvlabel.prompt_files import PromptFileError

BOX = {"id": 1, "image_id": 1, "bbox": [1, 1, 2, 2]}
WRONG_JSON = {
    "empty": (b"", "not JSON"),
    "broken": (b'{"boxes": [', "not JSON"),
    "deep": (b"[" * 200_000, "nested too deeply"),
    "latin": ("[[1,2,3,4]]é".encode("latin-1"), "byte 11 is not UTF-8"),
    "nul": (b"[]\0", "NUL bytes"),
    "digits": (b"[[" + b"1" * 5000 + b",2,3,4]]", "not JSON"),
    "number": (b"3", "no annotations that are known here"),
    "no key": (b'{"Boxes": []}', "no annotations that are known here"),
    "text": (b'[["1",2,3,4]]', r"boxes\[0\]: '1' is not a finite number"),
    "true": (b"[[true,2,3,4]]", "True is not a finite number"),
    "nan": (b"[[NaN,2,3,4]]", "nan is not a finite number"),
    "infinite": (b"[[1,2,3,1e999]]", "inf is not a finite number"),
    "long": (b"[[1,2,3," + b"9" * 400 + b"]]", "is not a finite number"),
    "three": (b"[[1,2,3]]", "3 values in .1, 2, 3., expected 4 numbers x0, y0, x1, y1"),
    "mapping": (b'{"boxes": {}}', "boxes: expected a list, found {}"),
    "row": (b'{"boxes": [null]}', r"boxes\[0\]: expected a list, found None"),
    "no point": (b'{"points": [[]]}', r"points\[0\]: no point in it"),
    "mixed": (b'{"points": [[[1,2],3]]}', r"points\[0\]: expected a list, found 3"),
    "label": (b'{"points": [[1,2,2]]}', "label 2 is neither 1"),
    "background": (b'{"points": [[1,2,0]]}', r"points\[0\]: has background points only"),
    "names": (b'{"boxes": [[1,2,3,4]], "names": []}', "0 names for 1 boxes and 0 points"),
    "name": (b'{"boxes": [[1,2,3,4]], "names": [5]}', r"names\[0\]: expected a name in quotes, found 5"),
    "half": (b'{"boxes": [[1,2,3,4]], "names": ["\\ud800"]}', "is no valid text"),
}


@pytest.mark.parametrize("case", WRONG_JSON)
def test_wrong_json_is_one_sentence(tmp_path, case):
    content, sentence = WRONG_JSON[case]
    with pytest.raises(PromptFileError, match=sentence) as caught:
        of_text(tmp_path, "a.json", content)
    assert "a.json" in str(caught.value)
    assert "\n" not in str(caught.value)


RUNS = {"size": [H, W], "counts": [5, H * W - 5]}
WRONG_COCO = {
    "image list": ({"images": 3, "annotations": []}, "images: expected a list"),
    "image": ({"images": [3], "annotations": []}, r"images\[0\]: expected a mapping"),
    "no image": ({"images": [], "annotations": [BOX]}, "1 annotations but no image"),
    "size": (coco_file([BOX], [{"id": 1, "width": 6, "height": 4}]), "6 x 4 px, but the image has 60 x 40 px"),
    "size type": (coco_file([BOX], [{"id": 1, "width": "6"}]), "image width: '6' is not a finite number"),
    "no id": (coco_file([BOX], [{"file_name": "a.png"}]), r"images\[0\]: the id None is no id"),
    "file name": (coco_file([BOX], [{"id": 1, "file_name": 5}]), r"images\[0\].file_name: expected a name"),
    "loose": (coco_file([{**BOX, "image_id": 2}]), r"annotations\[0\]: no image has its image_id 2"),
    "list": (coco_file([[]]), r"annotations\[0\]: expected a mapping"),
    "category": (coco_file([BOX], categories=[{"id": []}]), r"categories\[0\]: the id \[\] is no whole number"),
    "category name": (coco_file([BOX], categories=[{"id": 1, "name": 4}]), r"categories\[0\].name: expected a name"),
    "neither": (coco_file([{"id": 9, "image_id": 1}]), r"\(id 9\): neither a bbox nor a segmentation"),
    "bbox": (coco_file([{**BOX, "bbox": [1, 2, 3]}]), r"\(id 1\): 3 values in .*, expected 4 numbers x, y, width"),
    "overflow": (coco_file([{**BOX, "bbox": [1e308, 0, 1e308, 1]}]), "is not finite"),
    "odd polygon": (coco_file([{"image_id": 1, "segmentation": [[1, 2, 3, 4, 5, 6, 7]]}]), "7 coordinates in a polygon"),
    "flat polygon": (coco_file([{"image_id": 1, "segmentation": [1, 2, 3]}]), "expected a list, found 1"),
    "mask size": (coco_file([{"image_id": 1, "segmentation": {**RUNS, "size": [3, 4]}}]), "its mask is of an image of 4 x 3"),
    "mask": (coco_file([{"image_id": 1, "segmentation": {"size": [H, W]}}]), "expected a list, found None"),
    "short runs": (coco_file([{"image_id": 1, "segmentation": {**RUNS, "counts": [3, 4]}}]), "are not the run lengths"),
    "run type": (coco_file([{"image_id": 1, "segmentation": {**RUNS, "counts": ["3", 4]}}]), "are not the run lengths"),
    "long run": (coco_file([{"image_id": 1, "segmentation": {**RUNS, "counts": [10**30]}}]), "are not the run lengths"),
    "no pixel": (coco_file([{"image_id": 1, "segmentation": {**RUNS, "counts": [H * W]}}]), "marks no pixel"),
    "characters": (coco_file([{"image_id": 1, "segmentation": {**RUNS, "counts": "é"}}]), "no compressed counts"),
    "endless": (coco_file([{"image_id": 1, "segmentation": {**RUNS, "counts": "o" * 99}}]), "no compressed counts"),
    "unfinished": (coco_file([{"image_id": 1, "segmentation": {**RUNS, "counts": "5o"}}]), "end within a number"),
    "negative": (coco_file([{"image_id": 1, "segmentation": {**RUNS, "counts": "@@@"}}]), "are not the run lengths"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_COCO)
def test_wrong_coco_is_one_sentence(tmp_path, case):
    document, sentence = WRONG_COCO[case]
    with pytest.raises(PromptFileError, match=sentence):
        of_json(tmp_path, document)


WRONG_BOXES = {
    "reversed": ([5, 5, 3, 9], r"boxes\[0\]: the box \(5, 5, 3, 9\) .* is empty; expected x1 > x0 and y1 > y0"),
    "flat": ([5, 5, 7, 5], "is empty"),
    "outside": ([60, 0, 70, 9], r"lies outside the image of 60 x 40 px \(width x height\)"),
    "at the edge": ([-1, 0, 0, 9], "lies outside the image"),
    "partly": ([50, 0, 61.5, 9], r"box \(50, 0, 61.5, 9\) .* reaches 1.5 px over the edge of the image of 60 x 40 px"),
    "above": ([0, -3, 2, 9], "reaches 3 px over the edge"),
}


@pytest.mark.parametrize("case", WRONG_BOXES)
def test_boxes_that_cannot_be_meant(tmp_path, case):
    box, sentence = WRONG_BOXES[case]
    with pytest.raises(PromptFileError, match=sentence):
        of_json(tmp_path, [box])


@pytest.mark.parametrize("point", [[-0.6, 0], [0, -1], [59.6, 0], [0, 40]])
def test_points_outside_the_image(tmp_path, point):
    with pytest.raises(PromptFileError, match=r"points\[0\]: the point .* lies outside the image of 60 x 40 px"):
        of_json(tmp_path, {"points": [point]})
