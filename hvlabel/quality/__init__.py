"""How good a mask is, without ground truth: features of masks, and the IoU with the truth that they speak for."""

from hvlabel.quality.features import NAMES, mask_features
from hvlabel.quality.judge import Judged, judge
from hvlabel.quality.predictor import Predictor, load_predictor, predictor_sha256
from hvlabel.quality.view import View, view_of

__all__ = [
    "NAMES",
    "Judged",
    "Predictor",
    "View",
    "judge",
    "load_predictor",
    "mask_features",
    "predictor_sha256",
    "view_of",
]
