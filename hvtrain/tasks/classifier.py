"""A linear classifier of vectors, in the manner of scikit-learn: the probe of `evaluate` for one's own programs."""

from __future__ import annotations

from typing import Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from hvlabel.errors import ConfigError, ScoreError
from hvtrain.tasks.probe import least_squares_weights, logistic_weights

Method = Literal["logistic", "least_squares"]
FITS = {"logistic": logistic_weights, "least_squares": least_squares_weights}


class Probe:
    """A straight line per class. `least_squares` is one solve, `logistic` is better where classes are of unequal size.

    classes_   : (K,) the classes of `fit`, sorted
    coef_      : (K, D) float32
    intercept_ : (K,) float32
    """

    classes_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray

    def __init__(self, method: Method = "logistic") -> None:
        if method not in get_args(Method):
            raise ConfigError(f"no probe named {method!r}; there are: {', '.join(get_args(Method))}")
        self.method = method

    def fit(self, X: np.ndarray | Tensor, y: np.ndarray | Tensor) -> Self:
        """Itself, fitted on vectors X (n, D) of classes y (n,), numbers or text; nothing is drawn at random.

        ScoreError for other shapes, values that are no numbers, or fewer than two classes.
        """
        x, labels = _vectors(X), np.asarray(y)
        if labels.shape != (len(x),):
            raise ScoreError(f"classes {labels.shape} for {len(x)} vectors; give one class for every vector")
        # classes may be text, or numbers with gaps: what is fitted are their places in the sorted list
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ScoreError(
                f"{len(self.classes_)} class in {len(x)} vectors; there must be at least two to tell apart"
            )
        fitted = FITS[self.method]
        weight, bias = fitted(x, torch.from_numpy(numbers), len(self.classes_))
        self.coef_ = weight.numpy()
        self.intercept_ = bias.numpy()
        return self

    def decision_function(self, X: np.ndarray | Tensor) -> np.ndarray:
        """(n, K) float32 scores of vectors (n, D), the highest for the predicted class; ScoreError before `fit`."""
        x = _vectors(X)
        if not hasattr(self, "coef_"):
            raise ScoreError("the probe is not fitted; call fit(X, y) first")
        if x.shape[1] != self.coef_.shape[1]:
            raise ScoreError(f"vectors of {x.shape[1]} values for a probe of {self.coef_.shape[1]}; give as many")
        return x.numpy() @ self.coef_.T + self.intercept_

    def predict(self, X: np.ndarray | Tensor) -> np.ndarray:
        """(n,) classes of vectors (n, D)."""
        scores = self.decision_function(X)
        return self.classes_[scores.argmax(axis=1)]

    def score(self, X: np.ndarray | Tensor, y: np.ndarray | Tensor) -> float:
        """Share of vectors (n, D) whose predicted class is theirs, y (n,)."""
        is_right = self.predict(X) == np.asarray(y)  # (n,)
        return float(is_right.mean())


def _vectors(X: np.ndarray | Tensor) -> Tensor:
    """(n, D) float32 on the CPU."""
    x = torch.as_tensor(X).detach().cpu().float()
    if x.ndim != 2 or 0 in x.shape:
        raise ScoreError(f"vectors {tuple(x.shape)}; give (n, D), none of them 0")
    if not torch.isfinite(x).all():
        raise ScoreError("a vector holds a value that is no number; take it out")
    return x
