"""A monotone curve that brings predictions to what was observed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KNOTS = 24  # at most: fewer where the curve would fall


def monotone(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """(K, 2) knots of the rising curve nearest to (predicted, observed): pooled adjacent violators on equal bins.

    predicted, observed : (N,) in [0, 1]
    """
    order = np.argsort(predicted, kind="stable")
    pools: list[_Pool] = []
    for rows in np.array_split(order, KNOTS):
        if not len(rows):  # of fewer examples than knots
            continue
        mean_predicted = float(predicted[rows].mean())
        mean_observed = float(observed[rows].mean())
        pools.append(_Pool(mean_predicted, mean_observed, n=float(len(rows))))
        # a step down is levelled; that may make one before it
        while len(pools) > 1 and pools[-2].observed > pools[-1].observed:
            last = pools.pop()
            pools[-1] = pools[-1].with_next(last)
    inner = np.array([(pool.predicted, pool.observed) for pool in pools])
    # the ends: what is predicted beyond the bins' means is read between them and (0, 0) or (1, 1)
    first = [0.0, min(0.0, inner[0, 1])]
    last_knot = [1.0, max(1.0, inner[-1, 1])]
    return np.concatenate([[first], inner, [last_knot]])


@dataclass(frozen=True)
class _Pool:
    """Some examples as one knot: mean prediction, mean IoU, how many."""

    predicted: float
    observed: float
    n: float

    def with_next(self, following: _Pool) -> _Pool:
        """Both as one: means, each weighed by its examples."""
        n = self.n + following.n
        predicted = self.predicted * self.n + following.predicted * following.n
        observed = self.observed * self.n + following.observed * following.n
        return _Pool(predicted / n, observed / n, n)
