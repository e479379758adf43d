"""The same boxes from every format, and from masks those of pycocotools."""

import json

import numpy as np
import pytest
from annotation_files import (
    H,
    W,
    boxes,
    coco_file,
    once_a_file,
    picture,
    tiff,
    voc_xml,
    written,
    written_json,
)
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from hvlabel.masks.rle import encode, encode_stack
from hvlabel.prompt_files import read_prompts


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
    image = {"width": width, "height": height}
    return "sa1b.json", json.dumps({"image": image, "annotations": annotations})


def as_plain(rows, height, width):
    return "plain.json", json.dumps({"boxes": rows})


def as_list(rows, height, width):
    return "list.json", json.dumps(rows)


def as_csv(rows, height, width):
    lines = [",".join(map(repr, row)) + "\n" for row in rows]
    return "edges.csv", "x0,y0,x1,y1\n" + "".join(lines)


def as_csv_of_sizes(rows, height, width):
    lines = [f"{x0!r};{y0!r};{x1 - x0!r};{y1 - y0!r};cat\r\n" for x0, y0, x1, y1 in rows]
    return "sizes.csv", "\ufeffX;Y;Width;Height;Class\r\n" + "".join(lines)


def as_yolo(rows, height, width):
    lines = []
    for x0, y0, x1, y1 in rows:
        centre = f"{(x0 + x1) / 2 / width!r} {(y0 + y1) / 2 / height!r}"
        size = f"{(x1 - x0) / width!r} {(y1 - y0) / height!r}"
        lines.append(f"3 {centre} {size}\n")
    return "boxes.txt", "".join(lines)


def as_yolo_polygons(rows, height, width):
    lines = []
    for x0, y0, x1, y1 in rows:
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        shares = [f"{x / width!r} {y / height!r}" for x, y in corners]
        lines.append(f"cat {' '.join(shares)}\n")
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


def run_lengths(mask):
    """COCO's uncompressed counts: down the columns, beginning with False."""
    values = mask.T.ravel()
    changes = np.diff(values, prepend=False, append=~values[-1])
    ends = np.flatnonzero(changes)
    return np.diff(ends, prepend=0).tolist()


@once_a_file
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0.001, 0.999), shape=st.tuples(*[st.integers(1, 30)] * 2))
def test_boxes_of_masks_are_those_of_pycocotools(tmp_path, seed, density, shape):
    mask = np.random.default_rng(seed).random(shape) < density
    mask.flat[seed % mask.size] = True
    rle = encode(mask)
    x, y, w, h = coco.toBbox(rle)
    for counts in (rle["counts"].decode(), run_lengths(mask)):
        segmentation = {"size": list(shape), "counts": counts}
        annotation = {"id": 1, "image_id": 1, "segmentation": segmentation}
        path = written_json(tmp_path, coco_file([annotation], [{"id": 1}]))
        assert boxes(read_prompts(path, *shape)) == [(x, y, x + w, y + h)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".TIF"])
@once_a_file
@given(seed=st.integers(0, 2**32 - 1))
def test_boxes_of_an_instance_mask_are_those_of_its_values(tmp_path, dtype, suffix, seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([[0], rng.integers(1, 1 + np.iinfo(dtype).max, 5)])
    mask = rng.choice(values, (H, W), p=[0.99] + [0.002] * 5).astype(dtype)
    native = mask.astype(mask.dtype.newbyteorder("="))
    byteorder = ">" if dtype == ">u2" else "<"
    content = picture(native) if suffix == ".png" else tiff(mask, byteorder=byteorder)
    present = np.setdiff1d(mask, [0])
    prompts = read_prompts(written(tmp_path, f"a{suffix}", content), H, W)
    assert [p.object_id for p in prompts] == [str(v) for v in present]
    planes = mask == present[:, None, None]
    expected = coco.toBbox(encode_stack(planes)) if len(present) else []
    assert boxes(prompts) == [(x, y, x + w, y + h) for x, y, w, h in expected]
