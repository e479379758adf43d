"""Tracking by prompts: masks to boxes, and SAM itself on something that can be seen."""

import numpy as np
import pytest
import torch
from verbs import hvtrain

from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.sequences import moving_object, write_sequence
from hvlabel.models.sam import SamPredictor
from hvtrain.downstream.prompt_tracker import PromptTracker
from hvtrain.downstream.sequences import BOXES_FILE, read_boxes


class Bright:
    """Says that what is bright is the mask, wherever the box is."""

    def embed(self, image):
        return image

    def decode_clear(self, embedding, boxes_xyxy):
        self.asked = boxes_xyxy
        return torch.from_numpy(embedding.mean(axis=2) - 0.5)[None], torch.ones(1)

    def upscale(self, logits, embedding):
        return logits


def frame_of(x, y, side=12, size=48):
    frame = np.full((3, size, size), 0.01, np.float32)
    frame[:, y : y + side, x : x + side] = 0.9
    return frame


def test_the_box_around_the_mask_is_the_next_one():
    predictor = Bright()
    tracker = PromptTracker(predictor, 1.0)
    tracker.start(frame_of(10, 8), np.array([10, 8, 12, 12]))
    assert tracker.follow(frame_of(12, 9)).tolist() == [12, 9, 12, 12]
    np.testing.assert_allclose(predictor.asked, [[7, 5, 25, 23]])  # the last box, a quarter larger on each side
    assert tracker.follow(frame_of(14, 10)).tolist() == [14, 10, 12, 12]


def test_another_thing_of_the_same_colour_is_left_out_and_a_lost_object_stays():
    tracker = PromptTracker(Bright(), 1.0)
    tracker.start(frame_of(2, 2), np.array([2, 2, 12, 12]))
    both = np.maximum(frame_of(3, 2), frame_of(30, 30))
    assert tracker.follow(both).tolist() == [3, 2, 12, 12]
    assert tracker.follow(frame_of(30, 30)).tolist() == [3, 2, 12, 12]


def test_sam_follows_what_can_be_seen(sam):
    tracker = PromptTracker(SamPredictor(sam), 1.0)
    tracker.start(frame_of(14, 16, 16, 64), np.array([14, 16, 16, 16]))
    box = tracker.follow(frame_of(17, 17, 16, 64))
    np.testing.assert_allclose(box, [17, 17, 16, 16], atol=2)


# ------------------------------------------------------------------------------------------------------- the command


def test_a_pixel_without_a_value_is_black():
    """SAM refuses a picture with one."""
    seen = []

    class Watched(Bright):
        def embed(self, image):
            seen.append(image)
            return image

    tracker = PromptTracker(Watched(), 1.0)
    frame = frame_of(10, 8)
    tracker.start(frame, np.array([10, 8, 12, 12]))
    frame[:, 0, 0] = np.nan
    assert tracker.follow(frame).tolist() == [10, 8, 12, 12]
    assert not seen[0][0, 0].any()


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Three mosaics of HOT's kind and their boxes. Only to be read."""
    folder = tmp_path_factory.mktemp("hot") / "sequence"
    camera = CAMERAS["mosaic16"]
    write_sequence(folder, camera, ".png", moving_object(camera, 48, 3, 0))
    return folder


@pytest.fixture
def quick(monkeypatch):
    """SAM is what says that the bright is the mask; its checkpoint is asked for all the same."""
    monkeypatch.setattr("hvtrain.downstream.track_predict.SamPredictor", lambda network: Bright())
    monkeypatch.setattr("hvtrain.downstream.track_predict.sam_of", lambda model: model.path())


def test_sam_follows_from_the_file_or_from_a_box(quick, frames, tmp_path):
    options = ("--descriptor", "hotvis")
    said = hvtrain("predict", "sam:random:0", frames, tmp_path / "boxes.txt", *options)
    assert said.status == 0, said.err
    assert "3 boxes, AUC" in said.out
    boxes = read_boxes(tmp_path / "boxes.txt")
    assert boxes.shape == (3, 4)
    np.testing.assert_array_equal(boxes[0], read_boxes(frames / BOXES_FILE)[0])
    said = hvtrain("predict", "sam:random:0", frames, tmp_path / "mine.txt", *options, "--box", 4, 5, 12, 11)
    assert said.out.strip().endswith(": 3 boxes")
    assert (tmp_path / "mine.txt").read_text().splitlines()[0] == "4.00\t5.00\t12.00\t11.00"


@pytest.mark.parametrize(
    ("head", "options", "sentence"),
    [
        ("sam", (), "no frame *.zarr in it; a sequence needs at least one, and raw frames a descriptor"),
        ("sam", ("--descriptor", "hotvis", "--frames", "*.bmp"), "no frame *.bmp in it"),
        ("sam", ("--descriptor", "nowhere"), "nowhere"),
        ("sam", ("--descriptor", "hotvis", "--box", 1, 2, 0, 5), "--box: the first box has no size"),
        ("sam", ("--descriptor", "hotvis", "--box", 1, 2, "nan", 5), "--box: the first box has no size"),
        ("sam", ("--descriptor", "hotvis", "--box", 60, 2, 5, 5), "--box: the first box 60 2 5 5 lies outside"),
        ("sam", ("--descriptor", "hotvis"), "SAM is not in the model cache; run `hvlabel models fetch`"),
        ("sam:nowhere.pt", ("--descriptor", "hotvis"), "nowhere.pt"),
        ("sam", ("--descriptor", "hotvis", "--backbone", "run"), "--backbone is for heads that were trained on one"),
        ("nowhere", ("--descriptor", "hotvis"), "--descriptor and --frames are for sam"),
        ("nowhere", ("--frames", "*.tif"), "--descriptor and --frames are for sam"),
        ("nowhere", ("--box", 1, 2, 3, 4), "no such head"),
        ("./sam", (), "sam: no such head"),
    ],
)
def test_what_cannot_be_followed_is_one_sentence(quick, frames, tmp_path, head, options, sentence):
    said = hvtrain("predict", head, frames, tmp_path / "boxes.txt", *options)
    assert said.status == 2
    assert sentence in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "boxes.txt").exists()


def test_boxes_are_text(quick, frames, tmp_path):
    said = hvtrain("predict", "sam", frames, tmp_path / "boxes.csv", "--descriptor", "hotvis")
    assert said.status == 2
    assert "boxes are written as .txt" in said.err
