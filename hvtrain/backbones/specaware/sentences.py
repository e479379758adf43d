"""Vectors of the six sentences by which SpecAware knows a sensor and a processing level."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvlabel.errors import WeightsError

SHIPPED = Path(__file__).resolve().parents[3] / "resources" / "models" / "specaware_sentences.npz"
# name in the network -> the sentence that was encoded (all-MiniLM-L6-v2, mean of its tokens, unit length)
SENTENCES = {
    "avc": "AVIRIS-Classic",
    "avng": "AVIRIS-NG",
    "av3": "AVIRIS-3",
    "others": "other HSI sensors",
    "L1": "L1 Calibrated Radiance",
    "L2": "L2 Surface Reflectance",
}
WIDTH = 384


@lru_cache(maxsize=4)
def read_sentences(path: Path = SHIPPED) -> Mapping[str, Tensor]:
    """Vector (384,) float32 of each name, of a .npz file with one array per name; WeightsError if it is none."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in SENTENCES}
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path}: no table of sentence vectors ({error}); expected a .npz file with the arrays "
            f"{', '.join(SENTENCES)}, {WIDTH} numbers each"
        ) from error
    return checked(arrays, str(path))


def checked(vectors: Mapping[str, np.ndarray | Tensor], source: str) -> dict[str, Tensor]:
    """The vectors as float32 tensors; WeightsError where one is missing or of another length."""
    table = {}
    for name in SENTENCES:
        vector = torch.as_tensor(vectors[name]).float() if name in vectors else torch.empty(0)
        if vector.shape != (WIDTH,):
            raise WeightsError(f"{source}: sentence vector {name!r} is {tuple(vector.shape)}; expected ({WIDTH},)")
        table[name] = vector
    return table
