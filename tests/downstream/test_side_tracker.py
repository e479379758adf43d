"""How a box is chosen among those of a search crop, and how its size follows."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvtrain.downstream.side_tracker import SideTracker, chosen
from hvtrain.downstream.track_crops import window_of
from hvtrain.downstream.track_file import FollowSettings
from hvtrain.heads.sides import OBJECT, SideMaps, points_of

STEP = 1 / 8
SIZE = np.array([0.2, 0.2])
PLAIN = FollowSettings(penalty=0, window=0, rate=0.5)


def maps_of(likely, half=0.1, centreness=None):
    """Boxes of one size around 5 x 5 points. likely: (5, 5) logits of the object."""
    logits = torch.zeros(1, 2, 5, 5)
    logits[0, OBJECT] = torch.as_tensor(likely).float()
    return SideMaps(logits, torch.full((1, 4, 5, 5), half), centreness, STEP)


def one_at(row, column, value=4.0):
    likely = np.full((5, 5), -4.0)
    likely[row, column] = value
    return likely


def test_the_likeliest_point_gives_the_box_and_its_score_the_share_of_the_size():
    box, rate = chosen(maps_of(one_at(1, 3)), SIZE, PLAIN)
    points = points_of(5, STEP).tolist()
    np.testing.assert_allclose(box, [points[3], points[1], 0.2, 0.2], atol=1e-6)
    assert rate == pytest.approx(0.5 / (1 + math.exp(-4)))


def test_a_window_keeps_the_box_where_it_was():
    likely = one_at(2, 2, 0.0)  # in the middle half as likely
    likely[0, 0] = 4.0
    assert chosen(maps_of(likely), SIZE, PLAIN)[0][:2] == pytest.approx([0.25, 0.25])
    follow = FollowSettings(penalty=0, window=0.5, rate=0.5)
    assert chosen(maps_of(likely), SIZE, follow)[0][:2] == pytest.approx([0.5, 0.5])


def test_a_size_that_jumps_is_less_likely_by_the_rule():
    """Both sides twice as long: sqrt((w + p)(h + p)) doubles, the shape stays: exp(-penalty (2 x 1 - 1))."""
    follow = FollowSettings(penalty=0.5, window=0, rate=1.0)
    _, rate = chosen(maps_of(np.zeros((5, 5)), half=0.2), SIZE, follow)
    assert rate == pytest.approx(0.5 * math.exp(-0.5))
    _, kept = chosen(maps_of(np.zeros((5, 5)), half=0.1), SIZE, follow)
    assert kept == pytest.approx(0.5)


def test_a_shape_that_changes_is_less_likely_too():
    """A square becomes 0.4 x 0.1: p = 0.25, extents sqrt(0.65 x 0.35) and 0.4, shapes 4 to 1."""
    maps = maps_of(np.zeros((5, 5)))
    maps.sides[:, [0, 2]], maps.sides[:, [1, 3]] = 0.2, 0.05
    follow = FollowSettings(penalty=0.1, window=0, rate=1.0)
    _, rate = chosen(maps, SIZE, follow)
    change = math.sqrt(0.65 * 0.35) / 0.4 * 4
    assert rate == pytest.approx(0.5 * math.exp(-0.1 * (change - 1)), rel=1e-5)


def test_a_central_point_wins_over_an_equally_likely_one():
    centreness = torch.zeros(1, 5, 5)
    centreness[0, 3, 1] = 2.0
    likely = np.zeros((5, 5))
    points = points_of(5, STEP).tolist()
    assert chosen(maps_of(likely, centreness=centreness), SIZE, PLAIN)[0][:2] == pytest.approx([points[1], points[3]])
    # all alike tells nothing, and takes nothing away
    flat = chosen(maps_of(one_at(1, 3), centreness=torch.zeros(1, 5, 5)), SIZE, PLAIN)
    assert flat[0][:2] == pytest.approx([points[3], points[1]])


class OneBox:
    """A head whose every crop shows the object at one place. box: centre x, y, width, height, shares."""

    def __init__(self, box):
        self._box = box

    def template(self, maps):
        return maps

    def __call__(self, template, maps):
        x, y, width, height = self._box
        points = points_of(5, STEP)
        away_x, away_y = points[None, :] - x + torch.zeros(5, 1), points[:, None] - y + torch.zeros(1, 5)
        sides = [away_x + width / 2, away_y + height / 2, width / 2 - away_x, height / 2 - away_y]
        return SideMaps(torch.zeros(1, 2, 5, 5), torch.stack(sides)[None], None, STEP)


class NoEncoder:
    factor, side_px = 4.0, 8

    def __call__(self, crops):
        return [crops]


def test_the_place_is_taken_over_and_the_size_in_part():
    box = np.array([30.0, 30.0, 20.0, 20.0])
    window = window_of(box, 4.0)  # 80 px, from 0, 0
    tracker = SideTracker(OneBox((0.6, 0.5, 0.5, 0.5)), NoEncoder(), FollowSettings(penalty=0, window=0, rate=0.5))
    frame = np.zeros((1, 100, 100), np.float32)
    tracker.start(frame, box)
    x, y, width, height = tracker.follow(frame)
    size = 0.75 * 20 + 0.25 * 0.5 * window.side  # a score of a half, a rate of a half
    assert (width, height) == pytest.approx((size, size))
    assert (x + width / 2, y + height / 2) == pytest.approx((window.left + 48, window.top + 40))


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.01, 3), st.floats(0.01, 3))
def test_whatever_a_head_says_the_box_stays_in_the_frame(x, y, width, height):
    tracker = SideTracker(OneBox((x, y, width, height)), NoEncoder(), PLAIN)
    frame = np.zeros((1, 40, 60), np.float32)
    tracker.start(frame, np.array([20, 10, 12, 12]))
    for _ in range(3):
        left, top, w, h = tracker.follow(frame)
        assert left >= 0
        assert top >= 0
        assert left + w <= 60 + 1e-9
        assert top + h <= 40 + 1e-9
        assert min(w, h) >= 10 - 1e-9
