"""Decisions from the page of an image: carried out, and refused where they cannot be."""

import json

import pytest
from conftest import IMAGE
from verbs import hvlabel

from hvlabel.cache.index import read_index
from hvlabel.errors import MaskFileError
from hvlabel.masks import is_corrected, read_document
from hvlabel.stages.accept import accept_decisions


@pytest.fixture
def label(layout):
    return layout.label(*IMAGE)


@pytest.fixture
def write(layout, label, tmp_path):
    """Writes a file of decisions about the label, with some entries replaced; its path."""

    def to_file(name="d__vis31_00.decisions.json", **entries):
        seal = read_document(label)["provenance"]["content_sha256"]
        tree = {
            "dataset": "d",
            "image": "vis31_00",
            "label_sha256": seal,
            "order": [],
            "accept": [],
            "reject": [],
            "redraw": [],
        }
        path = tmp_path / name
        path.write_text(json.dumps({**tree, **entries}))
        return path

    return to_file


def test_rejected_masks_go_and_the_order_is_the_person_s(layout, label, write):
    before = read_document(label)
    counts = [a["segmentation"]["counts"] for a in before["annotations"]]
    ids = list(range(len(counts)))
    path = write(order=[3, 0, 2, 1, *ids[4:]], accept=[3], reject=[0, 2], redraw=[1])
    said = hvlabel("accept", path, "--results", layout.root)
    assert said.out.splitlines() == [
        f"{label}: 2 masks rejected, {len(ids) - 2} masks, kept as corrected; delete the file to have it made anew",
        f"{label}: to be redrawn: annotations 1",
    ]
    after = read_document(label)  # its seal is checked
    assert [a["segmentation"]["counts"] for a in after["annotations"]] == [counts[3], counts[1], *counts[4:]]
    assert [a["id"] for a in after["annotations"]] == ids[:-2]
    assert is_corrected(after)
    assert after["provenance"]["corrected"]["replaces"] == before["provenance"]["content_sha256"]
    # what lost to a mask that is gone lost to none
    new_place = {3: 0, 1: 1, **{k: k - 2 for k in ids[4:]}}
    assert [s["by"] for s in after["suppressed"]] == [new_place.get(s["by"]) for s in before["suppressed"]]
    entry = read_index(layout.index("labels", "d", "0000")).images["vis31_00"]
    assert entry.digest == after["provenance"]["content_sha256"]
    assert hvlabel("verify", "--results", layout.root).status == 0


def test_an_order_that_names_some_puts_them_first(layout, label, write):
    first = read_document(label)["annotations"][5]["segmentation"]
    assert accept_decisions(write(order=[5]), layout).is_sealed
    assert read_document(label)["annotations"][0]["segmentation"] == first


def test_what_is_only_to_be_redrawn_leaves_the_label(layout, label, write):
    made = label.read_bytes()
    said = hvlabel("accept", write(accept=[0], redraw=[2, 1]), "--results", layout.root)
    assert said.out.endswith(f"left as it was\n{label}: to be redrawn: annotations 1, 2\n")
    assert label.read_bytes() == made


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"reject": [999]}, r"reject and redraw: no mask 999 in the label, which has 0 to \d+; save them again"),
        ({"order": [-1]}, "order: no mask -1 in the label"),
        ({"order": [1, 2, 1]}, "order: mask 1 is named twice"),
        ({"accept": [4], "reject": [4]}, "mask 4 is named twice"),
        ({"reject": ["a"]}, r"reject.0: .*valid integer.*\(got 'a'\); save the decisions again"),
        ({"reject": [True]}, r"reject.0: .*valid integer"),
        ({"reject": ["1"]}, r"reject.0: .*valid integer"),
        ({"rejects": [1]}, "unknown key 'rejects'; did you mean 'reject'"),
        (
            {"label_sha256": "0" * 64},
            r"made for another state of .*vis31_00.json \(seal 000000000000, now .*hvlabel view d/vis31_00",
        ),
        ({"image": "gone"}, "of d/gone, which is no image of"),
        ({"dataset": "..", "image": "../../../x"}, "which is no image of"),
    ],
)
def test_what_cannot_be_carried_out_is_one_sentence(layout, label, write, entries, sentence):
    made = label.read_bytes()
    path = write(**entries)
    with pytest.raises(MaskFileError, match=sentence):
        accept_decisions(path, layout)
    said = hvlabel("accept", path, "--results", layout.root)
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert label.read_bytes() == made


@pytest.mark.parametrize("content", ["{", "[1]", "", "\x00", "[" * 100_000])
def test_a_file_that_is_no_decisions_is_refused(layout, write, content):
    path = write()
    path.write_text(content)
    said = hvlabel("accept", path, "--results", layout.root)
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert str(path) in said.err


def test_a_second_download_has_a_number(layout, write):
    assert hvlabel("accept", write("d__vis31_00.decisions (1).json", reject=[0]), "--results", layout.root).status == 0


def test_decisions_hold_for_one_state_only(layout, write):
    path = write(reject=[0])
    assert hvlabel("accept", path, "--results", layout.root).status == 0
    assert "another state" in hvlabel("accept", path, "--results", layout.root).err


def test_an_edited_label_is_no_state_to_decide_on(layout, label, write):
    path = write(reject=[0])
    document = json.loads(label.read_bytes())
    del document["annotations"][0]
    label.write_text(json.dumps(document))
    assert "the content does not match its seal" in hvlabel("accept", path, "--results", layout.root).err


def test_a_label_of_such_a_name_is_a_label(label, layout):
    other = label.with_name("x.decisions.json")
    other.write_bytes(label.read_bytes())
    assert "there is no edit to accept" in hvlabel("accept", other, "--results", layout.root).err
