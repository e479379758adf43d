"""Numbers and names of images in mask files: whole numbers for other tools, names for people, older files as before."""

import json

from hypothesis import given
from hypothesis import strategies as st

from hvlabel.masks import MaskSet, corrected, image_name, mask_document, numeric_id
from hvlabel.masks.sa1b import sealed

NAMES = st.text(max_size=30)  # half characters too: names of files may hold them


@given(NAMES, NAMES)
def test_an_id_is_exact_as_a_float_and_the_same_each_time(dataset, name):
    number = numeric_id(name, dataset)
    assert 0 <= number < 2**53
    assert int(float(number)) == number == numeric_id(name, dataset)


def test_images_of_one_name_in_two_data_sets_differ():
    ids = {numeric_id(f"image_{k}", dataset) for k in range(1000) for dataset in ("a", "b", None)}
    assert len(ids) == 3000


def test_numbers_never_change():
    assert numeric_id("vis31_00", "demo-vis31") == 87248759744140  # written into files that people keep


def test_a_document_has_both():
    document = mask_document(MaskSet(4, 5, ()), "a", {"stage": "rgb"}, dataset="d")
    assert document["image"]["image_id"] == numeric_id("a", "d")
    assert image_name(document) == "a"


def test_older_documents_have_their_name_as_id(tmp_path):
    size = {"width": 5, "height": 4, "file_name": "a.png"}
    older = {"image": {"image_id": "a", **size}, "annotations": [], "suppressed": [], "provenance": {"stage": "rgb"}}
    assert image_name(sealed(older)) == "a"
    edited = json.loads(json.dumps(sealed(older)))
    kept = corrected(tmp_path / "a.json", edited)
    assert (kept["image"]["image_id"], kept["image"]["name"]) == (numeric_id("a"), "a")
