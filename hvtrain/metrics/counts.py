"""What each program that scores saliency gives of one map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BETA_SQUARED = 0.3  # of F: precision counts more than recall
NAN = float("nan")  # of what a program does not count, or cannot


@dataclass(frozen=True)
class OfMap:
    """Scores of one map.

    f_curve, e_curve : F and enhanced alignment at each threshold of the program
    adaptive_f, adaptive_e : at twice the map's mean; nan where the program has none
    """

    mae: float
    f_curve: np.ndarray
    adaptive_f: float
    s: float
    e_curve: np.ndarray
    adaptive_e: float
