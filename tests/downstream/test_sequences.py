"""Sequences on disk and crops of their frames."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.sequences import moving_object, write_sequence
from hvlabel.errors import ConfigError, RawFileError
from hvlabel.settings import validated
from hvtrain.downstream.pairs import draw_pair
from hvtrain.downstream.sequences import BOXES_FILE, Frames, open_track, parts_of_tracks, read_boxes, tracks_of
from hvtrain.downstream.track_crops import Window, clipped, cut, window_of
from hvtrain.downstream.track_file import PairSettings, TrackCameraSettings, TrackSettings
from hvtrain.downstream.tracker import CentreTracker, CropEncoder, Stay, track
from hvtrain.heads.center import CentreHead

from .light import Bins

CAMERA = CAMERAS["mosaic16"]
OF_CAMERA = TrackCameraSettings(descriptor=CAMERA.descriptor)


def settings_of(**changes):
    tree = {"kind": "tracking", "title": "t", "head": "center", "cameras": {"m": {"descriptor": "hotvis"}}}
    return validated(TrackSettings, tree | changes, "task")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five sequences below folders as HOT has them. Only to be read."""
    root = tmp_path_factory.mktemp("hot")
    for k in range(5):
        part = "training" if k < 3 else "validation"
        write_sequence(root / part / "HSI-VIS" / f"s{k}", CAMERA, ".png", moving_object(CAMERA, 48, 4, k))
    return root


@pytest.fixture
def sequence(data):
    return open_track(data / "training/HSI-VIS/s0", "s0", "m", OF_CAMERA)


def test_sequences_are_listed_by_camera_and_part(data):
    settings = settings_of(
        cameras={
            "vis": {"descriptor": "hotvis", "folder": "HSI-VIS"},
            "nir": {"descriptor": "hotnir", "folder": "NIR"},
        },
        parts={"train": "training", "test": "validation"},
        holdout_share=0.34,
    )
    tracks = tracks_of(data, settings)
    assert {track.camera for track in tracks} == {"vis"}
    parts = parts_of_tracks(tracks, settings)
    assert {part: len(of_part) for part, of_part in parts.items()} == {"train": 2, "val": 1, "test": 2}
    frame = Frames("cube").of(parts["test"][0], 0)
    assert frame.shape == (16, 48, 48)  # the shipped descriptor takes the mosaic apart
    names = [track.name for of_part in parts.values() for track in of_part]
    assert len(set(names)) == 5


def test_frames_are_mosaics_and_colours_are_made_of_them(sequence):
    frames = Frames("cube")
    assert frames.of(sequence, 0).shape == (16, 48, 48)
    assert frames.bands_nm(sequence)[:2] == (493, 482)
    assert np.quantile(frames.of(sequence, 0) / frames.brightest(sequence), 0.999) == pytest.approx(1)
    assert Frames("rgb").of(sequence, 0).shape == (3, 48, 48)


def test_cubes_can_be_frames(tmp_path, make_cube):
    for k in range(2):
        values = np.linspace(0, k + 1, 4 * 12 * 12, dtype=np.float32)
        make_cube(tmp_path / "s" / f"{k}.zarr", values.reshape(4, 12, 12))
    (tmp_path / "s" / BOXES_FILE).write_text("1,1,4,4\n2 1 4 4\n")
    sequence = open_track(tmp_path / "s", "s", "own", TrackCameraSettings())
    assert Frames("cube").of(sequence, 1).max() == 2
    assert sequence.boxes_xywh.tolist() == [[1, 1, 4, 4], [2, 1, 4, 4]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no box in it"),
        ("1 2 3 4\n1 2 3\n1 1 1 1\n1 1 1 1\n", "line 2 is no box of four numbers"),
        ("1 2 x 4\n" * 4, "line 1 is no box"),
        ("1 2 3 4\n", "1 boxes for 4 frames"),
        ("0 0 0 0\n" * 4, "the first box has no size"),
        (None, "no readable file of boxes"),
    ],
)
def test_boxes_that_are_none_are_one_sentence(data, tmp_path, text, sentence):
    for path in (data / "training/HSI-VIS/s0").glob("*.png"):
        (tmp_path / path.name).symlink_to(path)
    if text is not None:
        (tmp_path / BOXES_FILE).write_text(text)
    with pytest.raises(RawFileError, match=sentence):
        open_track(tmp_path, "s", "m", OF_CAMERA)


def test_a_sequence_without_frames_and_data_without_sequences_are_one_sentence(tmp_path):
    (tmp_path / BOXES_FILE).write_text("1 2 3 4\n")
    with pytest.raises(RawFileError, match="no frame"):
        open_track(tmp_path, "s", "m", OF_CAMERA)
    for folder in ("empty", "missing"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ConfigError, match="no sequence in it"):
            tracks_of(tmp_path / folder, settings_of())


def test_a_first_box_outside_the_frame_is_one_sentence(sequence):
    outside = type(sequence)(**{**vars(sequence), "boxes_xywh": sequence.boxes_xywh + np.array([200, 0, 0, 0])})
    with pytest.raises(
        RawFileError, match=r"lies outside the frame of 48 x 48 px; boxes are x y w h in px of the cube"
    ):
        track(outside, Frames("cube"), Stay())


def test_a_box_that_is_no_number_is_a_frame_without_the_object(tmp_path):
    (tmp_path / BOXES_FILE).write_text("1 2 3 4\nnan nan nan nan\n")
    assert read_boxes(tmp_path / BOXES_FILE)[1].tolist() == [0, 0, 0, 0]


def test_one_part_alone_cannot_be_split(data):
    with pytest.raises(ConfigError, match="no sequence is left for test"):
        parts_of_tracks(tracks_of(data, settings_of())[:1], settings_of())


def test_an_untrained_head_follows_what_looks_like_its_template():
    grey, red = np.array([[1, 1, 1, 1], [0, 1, 3, 0]], np.float32)
    torch.manual_seed(0)  # first weights of both
    network = Bins(64, 32).eval()
    tracker = CentreTracker(CentreHead([32], 16, width=16).eval(), CropEncoder(network, [450, 550, 650, 750], 3.0, 4.0))
    box = np.array([10, 12, 14, 14])
    for k in range(6):
        frame = np.tile(grey[:, None, None], (1, 64, 64))
        x, y = box[0] + 4 * k, box[1] + 3 * k
        frame[:, y : y + 14, x : x + 14] = red[:, None, None]
        if k == 0:
            tracker.start(frame, box)
            continue
        left, top, width, height = tracker.follow(frame)
        assert abs(left + width / 2 - x - 7) < 3.5
        assert abs(top + height / 2 - y - 7) < 3.5


# ------------------------------------------------------------------------------------------------------------- crops


@given(st.floats(-20, 60), st.floats(-20, 60), st.floats(1, 30), st.floats(1, 30))
def test_a_box_comes_back_from_its_shares(x, y, width, height):
    window = Window(-7, 3, 31)
    box = np.array([x, y, width, height])
    np.testing.assert_allclose(window.in_frame(window.shares(box)), box, atol=1e-9)


@given(st.floats(-200, 200), st.floats(-200, 200), st.floats(-50, 300), st.floats(-50, 300))
def test_a_clipped_box_lies_in_the_frame_and_is_not_tiny(x, y, width, height):
    left, top, w, h = clipped(np.array([x, y, width, height]), (40, 60))
    assert left >= 0
    assert top >= 0
    assert left + w <= 60 + 1e-9
    assert top + h <= 40 + 1e-9
    assert min(w, h) >= 10 - 1e-9


def test_a_crop_shows_the_object_where_its_shares_say_and_zeros_outside():
    frame = np.zeros((2, 40, 40), np.float32)
    frame[:, 2:6, 1:5] = 1
    box = np.array([1, 2, 4, 4])
    window = window_of(box, 4.0)
    assert window == Window(-5, -4, 16)
    crop = cut(frame, window, 32)
    assert crop.shape == (2, 32, 32)
    rows, columns = np.nonzero(crop[0].numpy() > 0.5)
    centre_x, centre_y, width, height = window.shares(box) * 32
    assert columns.min() == centre_x - width / 2
    assert rows.max() + 1 == centre_y + height / 2
    assert crop[:, :8].max() == 0  # above the frame


def test_a_window_beside_the_frame_is_empty():
    assert cut(np.ones((1, 8, 8), np.float32), Window(20, 20, 4), 8).abs().sum() == 0


@pytest.mark.parametrize("seed", range(8))
def test_the_box_of_a_pair_lies_on_its_object(sequence, seed):
    """Also mirrored, shifted and scaled: what is under the box is what is under the template's."""
    plain = PairSettings(band_gain_sd=0, gain=0)
    marked = Frames("cube")
    for k in range(len(sequence)):
        frame = marked.of(sequence, k)
        x, y, w, h = sequence.boxes_xywh[k].astype(int)
        frame[:] = 0
        frame[:, y : y + h, x : x + w] = 1
    pair = draw_pair(sequence, marked, plain, 4.0, 64, np.random.default_rng(seed))
    covered = torch.nonzero(pair.search[0] > 0.5)
    x, y, w, h = pair.box * 64
    visible = [max(y - h / 2, 0), max(x - w / 2, 0), min(y + h / 2, 64), min(x + w / 2, 64)]
    assert len(covered)
    np.testing.assert_allclose([*covered.min(0)[0], *(covered.max(0)[0] + 1)], visible, atol=2)
