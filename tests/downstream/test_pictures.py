"""Preprocessing against what HS3-Bench's own gives, and as laws."""

import json

import numpy as np
import pytest

from hvtrain.downstream.pictures import mean_band, pca1, pseudo_rgb
from hvtrain.downstream.truth import remapped


@pytest.fixture(scope="module")
def oracle(shared):
    with np.load(shared / "oracle" / "runet" / "preprocessing.npz", allow_pickle=False) as file:
        assert "compare up to sign" in json.loads(str(file["__meta__"]))["note"]
        return dict(file)


@pytest.mark.parametrize("k", [0, 1])
def test_the_recorded_component_up_to_its_sign_and_the_recorded_mean(oracle, k):
    cube = oracle[f"cube{k}"].transpose(2, 0, 1)
    ours, recorded = pca1(cube)[0], oracle[f"pca1_{k}"][:, :, 0]
    sign = np.sign((ours * recorded).sum())
    np.testing.assert_allclose(sign * ours, recorded, atol=1e-5)
    np.testing.assert_allclose(mean_band(cube), oracle[f"mean_band{k}"], atol=1e-6)


def test_the_sign_does_not_depend_on_the_order_of_pixels():
    cube = np.random.default_rng(0).normal(size=(6, 8, 9)) * np.arange(1, 7)[:, None, None]
    np.testing.assert_allclose(pca1(cube[:, ::-1]), pca1(cube)[:, ::-1], atol=1e-5)
    assert pca1(cube).mean() == pytest.approx(0, abs=1e-5)


def test_three_bands_are_stretched_by_themselves_or_by_given_ranges():
    cube = np.stack([np.full((2, 2), 3.0), [[0, 1], [2, 4]], [[-1, 0], [1, 2]]]).astype(np.float32)
    own = pseudo_rgb(cube, (1, 2, 0))
    np.testing.assert_allclose(own[0], [[0, 63.75], [127.5, 255]])
    np.testing.assert_allclose(own[2], 0)  # nothing to stretch
    given = pseudo_rgb(cube, (1, 2, 0), [(0, 2), (0, 1), (0, 6)])
    np.testing.assert_allclose(given[0], [[0, 127.5], [255, 255]])
    np.testing.assert_allclose(given[2], 127.5)


HSIDRIVE = {0: 9, 1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6, 8: 9, 9: 7, 10: 8}


@pytest.mark.parametrize("k", [0, 1])
def test_rules_look_at_the_stored_map(oracle, k):
    labels = oracle[f"labels{k}"]
    np.testing.assert_array_equal(remapped(labels, HSIDRIVE), oracle[f"hsidrive_labels{k}"])
    of_hcv2 = np.where(labels == 10, 255, labels)
    np.testing.assert_array_equal(remapped(of_hcv2, {255: 19}), oracle[f"hcv2_labels{k}"])
    np.testing.assert_array_equal(remapped(np.array([[1, 2, 3]]), {1: 2, 2: 3, 3: 1}), [[2, 3, 1]])
