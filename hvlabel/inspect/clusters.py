"""k-means with k-means++ starts, the silhouette of what it finds, and how well two groupings agree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MOST_GROUPS = 12
N_STARTS = 10  # of which the tightest counts: one start may end in a poor optimum
MOST_STEPS = 100
SILHOUETTE_POINTS = 1500  # that a silhouette is taken over: it needs all pairs


class Clusters(NamedTuple):
    """A grouping of points.

    members    : (N,) int from 0
    inertia    : summed squared distance to the centres
    silhouette : mean, in [-1, 1]; nan for a single cluster
    """

    members: np.ndarray
    inertia: float
    silhouette: float


def best_clusters(points: np.ndarray, seed: int = 0) -> Clusters:
    """The clusters of (N, D) points for the number from 2 on whose mean silhouette is highest; one for few points."""
    n_distinct = len(np.unique(points, axis=0))
    most = min(MOST_GROUPS, n_distinct - 1)
    if most < 2:
        return clusters(points, 1, seed)
    tried = [clusters(points, k, seed) for k in range(2, most + 1)]
    return max(tried, key=lambda grouping: grouping.silhouette)  # of equal ones the fewest groups


def clusters(points: np.ndarray, k: int, seed: int = 0) -> Clusters:
    """At most k clusters of (N, D) points (Lloyd 1982; starts of Arthur and Vassilvitskii 2007).

    Equal points and seed give equal clusters.
    """
    n_distinct = len(np.unique(points, axis=0))
    k = min(k, n_distinct)
    rng = np.random.default_rng(seed)
    n_starts = N_STARTS if k > 1 else 1  # one group is the same from every start
    runs = [_lloyd(points, _starts(points, k, rng)) for _ in range(n_starts)]
    members, inertia = min(runs, key=lambda run: run[1])
    return Clusters(members, inertia, silhouette(points, members, rng))


def silhouette(points: np.ndarray, members: np.ndarray, rng: np.random.Generator) -> float:
    """Mean silhouette of Rousseeuw 1987 over some of the points; nan for a single cluster."""
    if len(np.unique(members)) < 2:
        return float("nan")
    if len(points) > SILHOUETTE_POINTS:
        some = rng.choice(len(points), SILHOUETTE_POINTS, replace=False)
        points, members = points[some], members[some]
    distance = np.sqrt(_squared(points, points))  # (N, N)
    values = np.zeros(len(points))
    names = np.unique(members)
    to_clusters = [distance[:, members == name].sum(axis=1) for name in names]  # (N,) each
    sums = np.stack(to_clusters, axis=1)  # (N, K)
    sizes = np.array([np.count_nonzero(members == name) for name in names])
    own = np.searchsorted(names, members)  # (N,) the column of each point's cluster
    rows = np.arange(len(points))
    n_others = np.maximum(sizes[own] - 1, 1)  # the distance to itself is 0 and does not count
    inner = sums[rows, own] / n_others
    outer_means = sums / sizes
    outer_means[rows, own] = np.inf  # so that the nearest other cluster is the smallest
    outer = outer_means.min(axis=1)
    larger = np.maximum(outer, inner)
    silhouettes = (outer - inner) / np.maximum(larger, 1e-300)  # where all distances are 0
    several = sizes[own] > 1  # a point alone in its cluster counts 0
    values[several] = silhouettes[several]
    return float(values.mean())


def adjusted_rand(first: np.ndarray, second: np.ndarray) -> float:
    """Agreement of two groupings of the same things: 1 if equal, 0 on average by chance (Hubert and Arabie 1985)."""
    table = _contingency(first, second)
    pairs = _pairs(table).sum()  # together in both groupings
    of_first = _pairs(table.sum(axis=1)).sum()
    of_second = _pairs(table.sum(axis=0)).sum()
    n_pairs = _pairs(np.array(len(first)))
    by_chance = of_first * of_second / max(n_pairs, 1e-300)  # a single thing makes no pair
    most = (of_first + of_second) / 2
    if most == by_chance:  # both are one group, or all things stand alone: nothing to disagree on
        return 1.0
    return float((pairs - by_chance) / (most - by_chance))


def purity(groups: np.ndarray, classes: np.ndarray) -> float:
    """Share of things that are of the commonest class of their group."""
    commonest = _contingency(groups, classes).max(axis=1)  # (K,) things
    return float(commonest.sum() / len(groups))


def _starts(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """(k, D) first centres: each with a chance that grows with its squared distance from those before."""
    centres = [points[rng.integers(len(points))]]
    while len(centres) < k:
        squared = _squared(points, np.array(centres)).min(axis=1)  # (N,)
        chances = squared / squared.sum()
        chosen = rng.choice(len(points), p=chances)
        centres.append(points[chosen])
    return np.array(centres)


def _lloyd(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    """Members and inertia where no point changes its centre any more."""
    members = np.full(len(points), -1)
    for _ in range(MOST_STEPS):
        squared = _squared(points, centres)
        nearest = squared.argmin(axis=1)
        if (nearest == members).all():
            break
        members = nearest
        for name in np.unique(members):  # a centre that lost all its points stays where it is
            centres[name] = points[members == name].mean(axis=0)
    to_nearest = _squared(points, centres).min(axis=1)  # (N,)
    return members, float(to_nearest.sum())


def _squared(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, M) squared distances."""
    products = points @ others.T
    of_points = (points**2).sum(axis=1)[:, None]  # (N, 1)
    of_others = (others**2).sum(axis=1)[None]  # (1, M)
    squared = of_points + of_others - 2 * products
    return np.maximum(squared, 0.0)  # rounding


def _contingency(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(K, M) how many things are of which group in both."""
    _, rows = np.unique(first, return_inverse=True)
    _, columns = np.unique(second, return_inverse=True)
    shape = (rows.max() + 1, columns.max() + 1)
    table = np.zeros(shape)
    np.add.at(table, (rows, columns), 1)  # a plain += would count a pair once, however often it comes
    return table


def _pairs(n: np.ndarray) -> np.ndarray:
    return n * (n - 1) / 2
