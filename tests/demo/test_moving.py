"""Generated sequences and salient scenes: what only a spectrum shows."""

import numpy as np
import pytest

from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.salient import salient_scene
from hvlabel.demo.sequences import BOXES_FILE, moving_object, write_sequence
from hvlabel.readers import open_raw

CAMERA = CAMERAS["mosaic16"]


def contrast(signal, inside, outside):
    """Distance of mean spectra between two groups of pixels, in units of the noise of a pixel."""
    difference = signal[:, inside].mean(axis=1) - signal[:, outside].mean(axis=1)
    return np.abs(difference).max() / signal[:, outside].std(axis=1).mean()


@pytest.fixture(scope="module")
def sequence():
    return moving_object(CAMERA, 64, 8, seed=3)


def test_equal_seeds_give_equal_sequences(sequence):
    again = moving_object(CAMERA, 64, 8, seed=3)
    assert all(map(np.array_equal, again.signals, sequence.signals))
    np.testing.assert_array_equal(again.boxes_xywh, sequence.boxes_xywh)
    assert not np.array_equal(moving_object(CAMERA, 64, 8, seed=4).boxes_xywh, sequence.boxes_xywh)


@pytest.mark.parametrize("seed", range(6))
def test_the_object_moves_and_stays_inside_with_one_size(seed):
    boxes = moving_object(CAMERA, 64, 20, seed).boxes_xywh
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= 64).all()
    assert len(np.unique(boxes[:, 2:], axis=0)) == 1
    assert np.abs(np.diff(boxes[:, :2], axis=0)).sum(axis=1).min() > 0
    assert np.ptp(boxes[:, :2], axis=0).max() >= 8


def test_frames_are_read_back_as_what_the_camera_writes(sequence, tmp_path):
    write_sequence(tmp_path / "a", CAMERA, ".png", sequence)
    frame = open_raw(tmp_path / "a" / "0003.png", CAMERA.descriptor).read()
    np.testing.assert_allclose(frame / 900, np.minimum(sequence.signals[2], 1023 / 900), atol=1e-3)
    boxes = np.loadtxt(tmp_path / "a" / BOXES_FILE)
    np.testing.assert_array_equal(boxes, sequence.boxes_xywh)


@pytest.mark.parametrize("seed", range(4))
def test_a_spectrum_shows_the_salient_object_and_rgb_does_not(seed):
    scene = salient_scene(CAMERA, 64, seed)
    rgb = np.tensordot(CAMERA.rgb_response() @ np.linalg.pinv(CAMERA.response()), scene.signal, axes=1)
    ring = np.zeros_like(scene.truth)
    rows, columns = np.nonzero(scene.truth)
    ring[max(rows.min() - 4, 0) : rows.max() + 5, max(columns.min() - 4, 0) : columns.max() + 5] = True
    ring &= ~scene.truth
    assert 0.01 < scene.truth.mean() < 0.2
    assert contrast(scene.signal, scene.truth, ring) > 2 * contrast(rgb, scene.truth, ring)
