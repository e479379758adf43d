"""Features of many channels in a plane, to be looked at: by principal components, or by who is near whom."""

from __future__ import annotations

import importlib.util

import numpy as np

CELLS = 1000  # that t-SNE places; its time grows faster than their number
COMPONENTS = 50  # that distances are measured in: the rest is noise that takes time
PERPLEXITY = 30.0  # about how many neighbours a cell keeps


def principal(features: np.ndarray, n: int = 2) -> np.ndarray:
    """(cells, n) float, features (cells, D) on their first principal components; 0 beyond those that there are."""
    centred = features - features.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    places = centred @ directions[:n].T
    n_missing = n - places.shape[1]  # fewer cells than n have fewer components
    return np.pad(places, ((0, 0), (0, n_missing)))


def has_tsne() -> bool:
    """Whether scikit-learn, which makes neighbourhoods, is there: pip install "hvlabel[tsne]"."""
    return importlib.util.find_spec("sklearn") is not None


def neighbourhoods(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) cells that were drawn, rising, and (k, 2) float32 their places by t-SNE; equal features give equal places.

    features : (cells, D), at least 4 cells
    Source: van der Maaten and Hinton, 2008, as scikit-learn has it.
    """
    from sklearn.manifold import TSNE

    rng = np.random.default_rng(0)
    n_drawn = min(len(features), CELLS)
    drawn = rng.choice(len(features), size=n_drawn, replace=False)
    cells = np.sort(drawn)
    of_cells = features[cells].astype(np.float64)
    reduced = principal(of_cells, COMPONENTS)
    # it has to be below the number of cells; a third leaves each some that are far
    perplexity = min(PERPLEXITY, (len(cells) - 1) / 3)
    placing = TSNE(perplexity=perplexity, init="pca", random_state=0)
    return cells, placing.fit_transform(reduced)
