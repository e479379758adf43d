"""Tracking by prompts: masks to boxes, and SAM itself on something that can be seen."""

import numpy as np
import torch

from hvlabel.models.sam import SamPredictor
from hvtrain.downstream.prompt_tracker import PromptTracker


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
