"""CSV, XML, YOLO and pictures that are no annotation file: one sentence each."""

import os

import numpy as np
import pytest
from annotation_files import GREY, SUFFIXES, H, W, of_text, picture, tiff, voc_xml

from hvlabel.prompt_files import PromptFileError, read_prompts, voc

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
