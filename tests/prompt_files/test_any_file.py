"""Anything at all gives prompts or one sentence."""

import numpy as np
import pytest
from annotation_files import GREY, SUFFIXES, H, W, once_a_file, picture, tiff, written, written_json
from hypothesis import given, settings
from hypothesis import strategies as st

from hvlabel.errors import MaskFileError
from hvlabel.masks import decode
from hvlabel.prompt_files import ObjectPrompt, PromptFileError, read_prompts

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
    "score",
    "predicted_iou",
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
    masks_or_sentence(path)


def masks_or_sentence(path):
    """The same where masks are taken as they are drawn."""
    prompts = []
    sentence = f"{path}: "
    try:
        prompts = read_prompts(path, H, W, ["a"], with_masks=True)
    except (PromptFileError, MaskFileError) as error:
        sentence = str(error)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    for prompt in prompts:
        inside = decode(prompt.drawn.rle)
        assert inside.shape == (H, W)
        assert inside.any()
        assert 0 <= prompt.drawn.score <= 1


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
