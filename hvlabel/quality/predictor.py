"""The IoU with the truth that a mask's features speak for.

It is a few small networks' mean, made honest by a monotone curve.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.config.fusion import QUALITY_PREDICTOR
from hvlabel.errors import WeightsError
from hvlabel.quality.features import NAMES

MOST_STRANGE = 3  # features outside of what training saw, above which a mask's quality is not known
MARGIN = 0.1  # of a feature's range in training, by which it may exceed that

Layers = tuple[tuple[np.ndarray, np.ndarray], ...]  # weight (in, out) and bias (out,) of each


@dataclass(frozen=True)
class Predictor:
    """A trained predictor.

    low, high, centre, spread : (F,) range, mean and deviation of each feature in training
    members                   : layers of each network
    knots                     : (K, 2) rising predicted and observed IoU
    """

    low: np.ndarray
    high: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    members: tuple[Layers, ...]
    knots: np.ndarray

    @classmethod
    def of(cls, content: dict[str, Any]) -> Predictor:
        """The predictor of a file's parsed content."""
        return cls(
            low=np.array(content["low"]),
            high=np.array(content["high"]),
            centre=np.array(content["centre"]),
            spread=np.array(content["spread"]),
            members=tuple(_layers(stored) for stored in content["members"]),
            knots=np.array(content["knots"]),
        )

    def quality(self, features: np.ndarray) -> np.ndarray:
        """(N,) float64 in [0, 1] for (N, F) features."""
        if not len(features):
            return np.zeros(0)
        # a network says nothing sensible beyond what it was trained on, so features are clipped to that
        within = np.clip(features, self.low, self.high)
        x = (within - self.centre) / self.spread
        per_member = [_forward(x, layers) for layers in self.members]
        raw = np.mean(per_member, axis=0)  # (N,)
        predicted, observed = self.knots.T
        return np.interp(raw, predicted, observed)

    def is_known(self, features: np.ndarray) -> np.ndarray:
        """(N,) bool: whether features lie in the range that training saw, but for a few."""
        margin = MARGIN * (self.high - self.low)
        below = features < self.low - margin
        above = features > self.high + margin
        n_strange = (below | above).sum(axis=1)  # (N,)
        return np.asarray(n_strange <= MOST_STRANGE)


def _layers(stored: Any) -> Layers:
    """A network as it stands in a file."""
    return tuple((np.array(weight), np.array(bias)) for weight, bias in stored)


def _forward(x: np.ndarray, layers: Layers) -> np.ndarray:
    """(N,) IoU of (N, F) standardised features."""
    for weight, bias in layers[:-1]:
        x = np.tanh(x @ weight + bias)
    weight, bias = layers[-1]
    logit = (x @ weight + bias)[:, 0]
    return 1 / (1 + np.exp(-logit))


@cache
def load_predictor(path: Path = QUALITY_PREDICTOR) -> Predictor:
    """The predictor of a file; WeightsError if it is missing, damaged or made for other features."""
    content_bytes = _read(path)
    try:
        content = json.loads(content_bytes)
        if tuple(content["features"]) == NAMES:
            return Predictor.of(content)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a quality predictor ({str(error)[:60]}); copy it again") from error
    raise WeightsError(f"{path}: made for other features; train it again with python -m hvtrain.recipes.quality")


@cache
def predictor_sha256(path: Path = QUALITY_PREDICTOR) -> str:
    """Hash of the predictor's file: part of the key of what was ranked by it."""
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({error.strerror}); it comes with a clone of the repository, or set "
            "fusion.ranking: agreement"
        ) from error
