"""Small annotation files, written and read: an image of 60 x 40 px unless a test says otherwise."""

import io
import json

import cv2
import numpy as np
import tifffile
from hypothesis import HealthCheck, settings

from hvlabel.prompt_files import READERS, read_prompts

H, W = 40, 60
SUFFIXES = sorted(READERS)
GREY = np.ones((H, W), np.uint8)
# all examples of a test may write the same file of one folder: each is read before the next is written
once_a_file = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
)


def written(folder, name, content):
    """The path of a file with this text or these bytes."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def written_json(folder, document, name="a.json"):
    """The path of a file with this document."""
    return written(folder, name, json.dumps(document))


def of_text(folder, name, content, image_names=()):
    """Prompts of a file of this content."""
    return read_prompts(written(folder, name, content), H, W, image_names)


def of_json(folder, document, image_names=()):
    """Prompts of a JSON file."""
    return read_prompts(written_json(folder, document), H, W, image_names)


def boxes(prompts):
    """Their boxes; None where a prompt has points."""
    return [prompt.box_xyxy for prompt in prompts]


def picture(array, suffix=".png"):
    """An encoded picture's bytes."""
    return cv2.imencode(suffix, array)[1].tobytes()


def tiff(array, **options):
    """A TIFF file's bytes."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def voc_xml(objects, head=""):
    """A Pascal VOC file of (name, (xmin, ymin, xmax, ymax))."""
    items = []
    for name, corners in objects:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        items.append(f"<object><name>{name}</name><bndbox>{box}</bndbox></object>")
    return f"<annotation><filename>a.png</filename>{head}{''.join(items)}</annotation>"


def coco_file(annotations, images=None, **more):
    """A COCO document, of one image if none are given."""
    images = images or [{"id": 1, "file_name": "a.png", "width": W, "height": H}]
    return {"images": images, "annotations": annotations, **more}
