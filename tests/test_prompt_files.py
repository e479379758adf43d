"""Annotation files as prompts: the same boxes from every format, hand-made cases, and one sentence for anything else."""

import io
import json
import os

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from hvlabel.masks.rle import encode, encode_stack
from hvlabel.prompt_files import READERS, ObjectPrompt, PromptFileError, read_prompts, voc

H, W = 40, 60
SUFFIXES = sorted(READERS)
SLOW_MACHINES_TOO = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
once_a_file = settings(deadline=None, suppress_health_check=SLOW_MACHINES_TOO, max_examples=60)


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def written_json(folder, document, name="a.json"):
    return written(folder, name, json.dumps(document))


def of_text(folder, name, content, image_names=()):
    return read_prompts(written(folder, name, content), H, W, image_names)


def of_json(folder, document, image_names=()):
    return read_prompts(written_json(folder, document), H, W, image_names)


def boxes(prompts):
    return [prompt.box_xyxy for prompt in prompts]


def picture(array, suffix=".png"):
    return cv2.imencode(suffix, array)[1].tobytes()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def voc_xml(objects, head=""):
    items = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax><ymax>{b[3]}</ymax>"
        "</bndbox></object>"
        for name, b in objects
    )
    return f"<annotation><filename>a.png</filename>{head}{items}</annotation>"


def coco_file(annotations, images=None, **more):
    images = images or [{"id": 1, "file_name": "a.png", "width": W, "height": H}]
    return {"images": images, "annotations": annotations, **more}


# --- the same boxes from every format -------------------------------------------------------------------------------


@st.composite
def sized_boxes(draw, numbers=None):
    """Height, width, and boxes inside such an image; their corners are fractions of it, or whole numbers."""
    height = draw(st.integers(2, 3000))
    width = draw(st.integers(2, 3000))

    def interval(length):
        if numbers == "whole":
            low = draw(st.integers(0, length - 1))
            return low, draw(st.integers(low + 1, length))
        low = draw(st.floats(0, 0.99)) * length
        return low, min(float(length), low + draw(st.floats(0.005, 1)) * length)

    rows = []
    for _ in range(draw(st.integers(0, 4))):
        (x0, x1), (y0, y1) = interval(width), interval(height)
        rows.append((x0, y0, x1, y1))
    return height, width, rows


def as_coco(rows, height, width):
    sizes = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in rows]
    annotations = [{"id": k, "image_id": 1, "bbox": box} for k, box in enumerate(sizes)]
    images = [{"id": 1, "file_name": "a.png", "width": width, "height": height}]
    return "coco.json", json.dumps({"images": images, "annotations": annotations})


def as_sa1b(rows, height, width):
    annotations = [{"bbox": [x0, y0, x1 - x0, y1 - y0]} for x0, y0, x1, y1 in rows]
    return "sa1b.json", json.dumps({"image": {"width": width, "height": height}, "annotations": annotations})


def as_plain(rows, height, width):
    return "plain.json", json.dumps({"boxes": rows})


def as_list(rows, height, width):
    return "list.json", json.dumps(rows)


def as_csv(rows, height, width):
    return "edges.csv", "x0,y0,x1,y1\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows)


def as_csv_of_sizes(rows, height, width):
    lines = [f"{x0!r};{y0!r};{x1 - x0!r};{y1 - y0!r};cat\r\n" for x0, y0, x1, y1 in rows]
    return "sizes.csv", "\ufeffX;Y;Width;Height;Class\r\n" + "".join(lines)


def as_yolo(rows, height, width):
    lines = [
        f"3 {(x0 + x1) / 2 / width!r} {(y0 + y1) / 2 / height!r} {(x1 - x0) / width!r} {(y1 - y0) / height!r}\n"
        for x0, y0, x1, y1 in rows
    ]
    return "boxes.txt", "".join(lines)


def as_yolo_polygons(rows, height, width):
    lines = []
    for x0, y0, x1, y1 in rows:
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        lines.append("cat " + " ".join(f"{x / width!r} {y / height!r}" for x, y in corners) + "\n")
    return "polygons.txt", "".join(lines)


def as_coco_polygons(rows, height, width):
    polygons = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in rows]
    annotations = [{"id": k, "image_id": 1, "segmentation": p} for k, p in enumerate(polygons)]
    return "coco.json", json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": annotations})


FORMATS = [
    as_coco,
    as_sa1b,
    as_plain,
    as_list,
    as_csv,
    as_csv_of_sizes,
    as_yolo,
    as_yolo_polygons,
    as_coco_polygons,
]


@pytest.mark.parametrize("as_format", FORMATS)
@once_a_file
@given(image=sized_boxes())
def test_boxes_come_back_from_every_format(tmp_path, as_format, image):
    height, width, rows = image
    prompts = read_prompts(written(tmp_path, *as_format(rows, height, width)), height, width)
    assert len(prompts) == len(rows)
    for prompt, row in zip(prompts, rows, strict=True):
        assert prompt.box_xyxy == pytest.approx(row, abs=1e-6 * max(height, width))
        assert prompt.points_xy == prompt.labels == ()


@once_a_file
@given(image=sized_boxes("whole"))
def test_whole_boxes_come_back_from_voc(tmp_path, image):
    height, width, rows = image
    objects = [("cat", (x0 + 1, y0 + 1, x1, y1)) for x0, y0, x1, y1 in rows]
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    prompts = read_prompts(written(tmp_path, "a.xml", voc_xml(objects, size)), height, width)
    assert boxes(prompts) == rows
    assert [p.object_id for p in prompts] == [str(k) for k in range(len(rows))]


@once_a_file
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0.001, 0.999), shape=st.tuples(*[st.integers(1, 30)] * 2))
def test_boxes_of_masks_are_those_of_pycocotools(tmp_path, seed, density, shape):
    mask = np.random.default_rng(seed).random(shape) < density
    mask.flat[seed % mask.size] = True
    rle = encode(mask)
    x, y, w, h = coco.toBbox(rle)
    lengths = np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=False, append=~mask[-1, -1])), prepend=0)
    for counts in (rle["counts"].decode(), lengths.tolist()):
        segmentation = {"size": list(shape), "counts": counts}
        document = coco_file([{"id": 1, "image_id": 1, "segmentation": segmentation}], [{"id": 1}])
        assert boxes(read_prompts(written_json(tmp_path, document), *shape)) == [(x, y, x + w, y + h)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".TIF"])
@once_a_file
@given(seed=st.integers(0, 2**32 - 1))
def test_boxes_of_an_instance_mask_are_those_of_its_values(tmp_path, dtype, suffix, seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([[0], rng.integers(1, 1 + np.iinfo(dtype).max, 5)])
    mask = rng.choice(values, (H, W), p=[0.99] + [0.002] * 5).astype(dtype)
    native = mask.astype(mask.dtype.newbyteorder("="))
    content = picture(native) if suffix == ".png" else tiff(mask, byteorder=">" if dtype == ">u2" else "<")
    present = np.setdiff1d(mask, [0])
    prompts = read_prompts(written(tmp_path, f"a{suffix}", content), H, W)
    assert [p.object_id for p in prompts] == [str(v) for v in present]
    expected = coco.toBbox(encode_stack(mask == present[:, None, None])) if len(present) else []
    assert boxes(prompts) == [(x, y, x + w, y + h) for x, y, w, h in expected]


# --- hand-made cases ------------------------------------------------------------------------------------------------


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


# --- refusals -------------------------------------------------------------------------------------------------------

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


WRONG_CSV = {
    "empty": ("", "no header"),
    "other columns": ("a,b\n1,2\n", "the columns 'a', 'b' are neither boxes"),
    "misspelt": ("x,y,w,hight\n1,2,3,4\n", "are neither boxes"),
    "no header": ("1,2,3,4\n5,6,7,8\n", "are neither boxes"),
    "twice": ("x,y,x\n1,2,3\n", "names a column twice"),
    "short": ("x0,y0,x1,y1\n1,2,3,4\n1,2,3\n", "line 3: 3 cells, expected 4"),
    "text": ("x0,y0,x1,y1\n1,2,three,4\n", "line 2, column x1: 'three' is not a finite number"),
    "nan": ("x0,y0,x1,y1\n1,2,nan,4\n", "line 2, column x1: 'nan' is not a finite number"),
    "underscore": ("x,y\n1_0,2\n", "'1_0' is not a finite number"),
    "missing": ("x,y\n1,\n", "line 2, column y: '' is not a finite number"),
    "quote": ('x,y\n"1,2\n', "not CSV"),
    "long": ("x,y\n" + "1" * 200_000 + ",2\n", "not CSV"),
    "label": ("x,y,label\n1,2,3\n", "line 2, column label: the label 3 is neither"),
    "background": ("x,y,label,object\n1,2,0,q\n", "line 2, object 'q': has background points only"),
    "object": ("x,y,object\n1,2,\n", "line 2: no value in the column object"),
    "classes": ("x,y,object,name\n1,2,q,cat\n1,3,q,dog\n", "lines 2, 3: the points of object 'q' differ in class"),
    "no image": ("x,y,image\n1,2,\n", "line 2: no image in the column image"),
    "image": (
        "x,y,image\n1,2,b.png\n1,2,c.png\n",
        "none of its images matches 'a'; it knows 2 images: 'b.png', 'c.png'",
    ),
    "outside": ("x0,y0,x1,y1\n1,2,100,4\n", "line 2: the box .* reaches 40 px"),
    "utf-16": ("x,y\n1,2\n".encode("utf-16"), "not UTF-8 text"),
}


@pytest.mark.parametrize("case", WRONG_CSV)
def test_wrong_csv_is_one_sentence(tmp_path, case):
    content, sentence = WRONG_CSV[case]
    with pytest.raises(PromptFileError, match=sentence):
        of_text(tmp_path, "a.csv", content, ["a"])


LAUGHS = '<!DocType a [<!ENTITY b "ha">]><annotation>&b;</annotation>'
WRONG_XML = {
    "empty": ("", "not XML"),
    "broken": ("<annotation>", "not XML"),
    "doctype": (LAUGHS, "DOCTYPE or ENTITY"),
    "hidden doctype": (LAUGHS.encode("utf-16-le"), "NUL bytes"),
    "marked doctype": (LAUGHS.encode("utf-16"), "not UTF-8"),
    "entity": ("<annotation>&b;</annotation>", "not XML"),
    "root": ("<svg/>", "the root is <svg>, expected <annotation>"),
    "no box": ("<annotation><object><name>cat</name></object></annotation>", r"object 0 \('cat'\): no bndbox"),
    "no side": ("<annotation><object><bndbox/></object></annotation>", r"object 0 \(None\): no xmin in <bndbox>"),
    "text": (voc_xml([("cat", ("a", 1, 2, 3))]), r"object 0 \('cat'\), xmin: 'a' is not a finite number"),
    "size": (voc_xml([], "<size><width>6</width><height>4</height></size>"), "6 x 4 px, but the image has 60 x 40 px"),
    "no size": (voc_xml([], "<size><width>6</width></size>"), "size: no height in <size>"),
    "empty box": (voc_xml([("cat", (5, 1, 4, 3))]), "is empty"),
}


@pytest.mark.parametrize("case", WRONG_XML)
def test_wrong_xml_is_one_sentence(tmp_path, case):
    content, sentence = WRONG_XML[case]
    with pytest.raises(PromptFileError, match=sentence):
        of_text(tmp_path, "a.xml", content)


def test_a_declared_encoding_is_never_taken(tmp_path):
    # in UTF-7, <!DOCTYPE can be spelt without these bytes
    content = "<?xml version='1.0' encoding='utf-7'?>+ADwAIQ-DOCTYPE a+AD4-<annotation/>"
    with pytest.raises(PromptFileError, match="not XML"):
        of_text(tmp_path, "a.xml", content)


def test_deep_xml_is_read_or_refused(tmp_path):
    n = 100_000
    assert of_text(tmp_path, "a.xml", "<annotation>" + "<a>" * n + "</a>" * n + "</annotation>") == []


def test_a_large_xml_file_is_refused_unread(tmp_path):
    path = tmp_path / "a.xml"
    path.touch()
    os.truncate(path, voc.MAX_BYTES + 1)  # a hole: takes no disk
    with pytest.raises(PromptFileError, match="64 MiB, more than the 64"):
        read_prompts(path, H, W)


WRONG_YOLO = {
    "pixels": ("0 30 20 10 10\n", "line 1: 30 is outside .0, 1., the values look like pixels"),
    "negative": ("0 0.5 0.5 0.5 -0.01\n", "the values look like pixels"),
    "words": ("0 0.5 0.5 0.5\n", "line 1: 4 words in .*, expected `class cx cy w h`"),
    "even": ("0 0.1 0.1 0.1 0.2 0.2 0.2 0.3\n", "line 1: 8 words"),
    "prose": ("\nan ordinary text of words\n", "line 2: 'ordinary' is not a finite number"),
    "nan": ("0 nan 0.5 0.5 0.5\n", "line 1: 'nan' is not a finite number"),
    "empty": ("0 0.5 0.5 0 0.5\n", "line 1: the box .* is empty"),
    "outside": ("0 0.9 0.5 0.5 0.5\n", "line 1: the box .* reaches 9 px over the edge"),
    "flat": ("0 0.1 0.1 0.2 0.1 0.3 0.1\n", "is empty"),
}


@pytest.mark.parametrize("case", WRONG_YOLO)
def test_wrong_yolo_is_one_sentence(tmp_path, case):
    content, sentence = WRONG_YOLO[case]
    with pytest.raises(PromptFileError, match=sentence):
        of_text(tmp_path, "a.txt", content)


GREY = np.ones((H, W), np.uint8)
WRONG_PICTURES = {
    "empty.png": (b"", "not a PNG"),
    "other.png": (tiff(GREY), "not a PNG"),
    "cut.png": (picture(GREY)[:60], "this PNG ends before its last chunk"),
    "end.png": (picture(GREY)[:-2], "this PNG ends within its last chunk"),
    "bits.png": (picture(GREY)[:45] + b"??" + picture(GREY)[47:], "not a readable PNG"),
    "promise.png": (picture(GREY)[:33] + b"\xff" + picture(GREY)[34:], "this PNG ends before its last chunk"),
    "size.png": (picture(GREY[:7, :9]), "9 x 7 px, but the image has 60 x 40 px"),
    "colour.png": (picture(np.ones((H, W, 3), np.uint8)), "a PNG of 8 bits, RGB, expected an instance mask"),
    "alpha.png": (picture(np.ones((H, W, 4), np.uint8)), "RGB with alpha, expected an instance mask"),
    "empty.tif": (b"", "not a readable TIFF"),
    "other.tif": (picture(GREY), "not a readable TIFF"),
    "cut.tif": (tiff(GREY)[:-200], "promise what it does not hold"),
    "size.tif": (tiff(GREY[:7, :9]), "9 x 7 px, but the image has 60 x 40 px"),
    "colour.tif": (
        tiff(np.ones((H, W, 3), np.uint8), photometric="rgb"),
        "axes .40, 60, 3., expected an instance mask",
    ),
    "float.tif": (tiff(GREY.astype(np.float32)), "a TIFF page of float32, 32 bits, MINISBLACK"),
    "white.tif": (tiff(GREY, photometric="miniswhite"), "8 bits, MINISWHITE, .* expected an instance mask"),
    "turned.tif": (tiff(GREY, extratags=[(274, "H", 1, 6)]), "the TIFF tag Orientation is 6, expected 1"),
    "rare.tif": (tiff(GREY, compression="zstd"), r"not a readable TIFF file \(compression ZSTD\)"),
    "pages.tiff": (tiff(np.ones((2, H, W), np.uint8), photometric="minisblack"), "2 pages in this TIFF file"),
}


@pytest.mark.parametrize("name", WRONG_PICTURES)
def test_wrong_pictures_are_one_sentence(tmp_path, name):
    content, sentence = WRONG_PICTURES[name]
    with pytest.raises(PromptFileError, match=sentence):
        of_text(tmp_path, name, content)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file_and_a_folder(tmp_path, suffix):
    with pytest.raises(PromptFileError, match=r"cannot read the annotations \(No such file"):
        read_prompts(tmp_path / f"a{suffix}", H, W)
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(PromptFileError, match=r"cannot read the annotations \(Is a directory"):
        read_prompts(tmp_path / f"folder{suffix}", H, W)


@pytest.mark.parametrize("name", ["a.yaml", "a"])
def test_an_unknown_suffix_lists_the_known_ones(tmp_path, name):
    with pytest.raises(PromptFileError, match=r"expected \.json, \.csv, \.xml, \.txt, \.png, \.tif, \.tiff"):
        of_text(tmp_path, name, "")


# --- anything at all gives prompts or one sentence ------------------------------------------------------------------

KEYS = [
    "images",
    "annotations",
    "image",
    "boxes",
    "points",
    "names",
    "categories",
    "id",
    "image_id",
    "file_name",
    "width",
    "height",
    "bbox",
    "segmentation",
    "size",
    "counts",
    "iscrowd",
    "category_id",
    "name",
]
NUMBERS = st.one_of(st.integers(-1, 70), st.floats(), st.integers())
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=4), st.sampled_from(["a", "a.png", "05o"]))
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=30,
)
SEGMENTATIONS = st.fixed_dictionaries(
    {"size": st.just([H, W]), "counts": st.text("05@Oo`lL", max_size=12) | st.lists(NUMBERS, max_size=5)}
)
ANNOTATIONS = st.fixed_dictionaries(
    {}, optional={"id": LEAVES, "image_id": st.just(1), "bbox": DOCUMENTS, "segmentation": SEGMENTATIONS | DOCUMENTS}
)
COCO_DOCUMENTS = st.fixed_dictionaries(
    {"images": st.just([{"id": 1}]), "annotations": st.lists(ANNOTATIONS, max_size=4) | DOCUMENTS},
    optional={"categories": DOCUMENTS},
)
PLAIN_DOCUMENTS = st.dictionaries(st.sampled_from(["boxes", "points", "names"]), DOCUMENTS)
WORDS = st.sampled_from(
    [
        "x",
        "y",
        "w",
        "h",
        "x0",
        "y0",
        "x1",
        "y1",
        "label",
        "object",
        "image",
        "name",
        "0",
        "1",
        "0.5",
        "3",
        "9",
        "-1",
        "nan",
        "1e9",
        "1e999",
        "a",
        "cat",
        '"',
    ]
) | st.text(max_size=3)
SEPARATORS = st.sampled_from([",", ";", "\t", " ", "\n", "\r\n", "\r"])
TEXTS = st.lists(st.tuples(WORDS, SEPARATORS), max_size=30).map(lambda pairs: "".join(a + b for a, b in pairs))
TAGS = st.sampled_from(
    ["annotation", "object", "bndbox", "xmin", "ymin", "xmax", "ymax", "size", "width", "height", "name"]
)
MARKUP = st.recursive(
    st.text("019.-anx&", max_size=4),
    lambda inner: st.lists(st.tuples(TAGS, inner), max_size=5).map(
        lambda pairs: "".join(f"<{tag}>{text}</{tag}>" for tag, text in pairs)
    ),
)
SOUND = {
    ".png": picture(np.arange(H * W, dtype=np.uint16).reshape(H, W)),
    ".tif": tiff(GREY, compression="zlib", tile=(16, 16)),
    ".tiff": tiff(np.arange(H * W, dtype=np.uint16).reshape(H, W), compression="lzw"),
}


def prompts_or_sentence(path):
    prompts = []
    sentence = f"{path}: "
    try:
        prompts = read_prompts(path, H, W, ["a"])
    except PromptFileError as error:
        sentence = str(error)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    for prompt in prompts:
        assert isinstance(prompt, ObjectPrompt)
        assert len(prompt.points_xy) == len(prompt.labels)
        assert (prompt.box_xyxy is None) == bool(prompt.points_xy)
        if prompt.box_xyxy is not None:
            x0, y0, x1, y1 = prompt.box_xyxy
            assert 0 <= x0 < x1 <= W
            assert 0 <= y0 < y1 <= H


@pytest.mark.parametrize("suffix", SUFFIXES)
@once_a_file
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_any_bytes_give_prompts_or_one_sentence(tmp_path, suffix, content):
    prompts_or_sentence(written(tmp_path, f"a{suffix}", content))


@settings(once_a_file, max_examples=400)
@given(document=DOCUMENTS | COCO_DOCUMENTS | PLAIN_DOCUMENTS)
def test_any_json_gives_prompts_or_one_sentence(tmp_path, document):
    prompts_or_sentence(written_json(tmp_path, document))


@settings(once_a_file, max_examples=200)
@given(text=TEXTS, header=st.sampled_from(["", "x0,y0,x1,y1\n", "x;y;w;h;name\n", "image\tx\ty\tlabel\tobject\n"]))
def test_any_table_gives_prompts_or_one_sentence(tmp_path, text, header):
    prompts_or_sentence(written(tmp_path, "a.csv", header + text))
    prompts_or_sentence(written(tmp_path, "a.txt", text))


@settings(once_a_file, max_examples=200)
@given(markup=MARKUP)
def test_any_xml_gives_prompts_or_one_sentence(tmp_path, markup):
    prompts_or_sentence(written(tmp_path, "a.xml", f"<annotation>{markup}</annotation>"))


@pytest.mark.parametrize("suffix", SOUND)
@settings(once_a_file, max_examples=200)
@given(data=st.data())
def test_damaged_pictures_give_prompts_or_one_sentence(tmp_path, suffix, data):
    content = bytearray(SOUND[suffix])
    # most tags and chunk headers stand in the first bytes
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(300, len(content) - 1)) | st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    length = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    prompts_or_sentence(written(tmp_path, f"a{suffix}", bytes(content[:length])))
