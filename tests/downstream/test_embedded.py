"""Features in a plane: components and neighbourhoods."""

import numpy as np
import pytest
from PIL import Image

from hvtrain.downstream.embedded import CELLS, has_tsne, neighbourhoods, principal
from hvtrain.downstream.plots import draw_features

COLOURS = [(250, 0, 0), (0, 0, 250)]


def two_groups(n, seed=0):
    """(2 n, 12) features and (2 n,) classes of two groups that lie apart."""
    rng = np.random.default_rng(seed)
    classes = np.arange(2 * n) % 2
    return rng.normal(0, 1, (2 * n, 12)) + 8 * classes[:, None], classes


def test_the_first_component_is_the_one_that_varies_most():
    features = np.zeros((5, 3))
    features[:, 1] = [-4, -2, 0, 2, 4]
    features[:, 0] = [1, -1, 0, -1, 1]
    places = principal(features)
    np.testing.assert_allclose(np.abs(places[:, 0]), [4, 2, 0, 2, 4], atol=1e-9)
    assert principal(features[:1]).tolist() == [[0, 0]]  # a single cell varies in no direction


@pytest.mark.skipif(not has_tsne(), reason='scikit-learn is not installed: pip install "hvlabel[tsne]"')
@pytest.mark.parametrize("n", [4, 40, CELLS])
def test_neighbours_stay_neighbours_and_places_are_the_same_again(n, monkeypatch):
    monkeypatch.setattr("hvtrain.downstream.embedded.CELLS", 100)  # seconds
    features, classes = two_groups(n)
    cells, places = neighbourhoods(features)
    assert len(cells) == min(2 * n, 100)
    assert places.shape == (len(cells), 2)
    np.testing.assert_array_equal(neighbourhoods(features)[1], places)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = classes[cells][distances.argmin(axis=1)]
    assert (nearest == classes[cells]).mean() > 0.9


@pytest.mark.parametrize(
    "there", [False, pytest.param(True, marks=pytest.mark.skipif(not has_tsne(), reason="no t-SNE"))]
)
def test_the_picture_has_a_second_panel_where_it_can(tmp_path, monkeypatch, there):
    monkeypatch.setattr("hvtrain.downstream.plots.has_tsne", lambda: there)
    features, classes = two_groups(8)
    draw_features(tmp_path / "f.png", features, classes, ["a", "b"], COLOURS)
    few = features[:3], classes[:3]
    draw_features(tmp_path / "few.png", *few, ["a", "b"], COLOURS)
    with Image.open(tmp_path / "f.png") as whole, Image.open(tmp_path / "few.png") as without:
        assert whole.width == (1 + there) * without.width
