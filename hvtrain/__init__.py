"""Pre-training of backbones on pseudo-labels, and what comes after.

The labelled images of a results folder, for training of one's own:

    from hvtrain import LabelledImages
    image = LabelledImages("results")[0]  # image.cube (C, H, W), image.wavelengths_nm (C,), image.masks (N, H, W)

Features of any cube by a trained backbone, and a linear classifier on them:

    from hvtrain import Backbone, Probe
    maps = Backbone.load("results/pretrain/RUN").features(cube, wavelengths_nm)  # maps.last (1, D, h, w)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvtrain.api import Backbone
    from hvtrain.data.labelled_images import LabelledBatch, LabelledImage, LabelledImages
    from hvtrain.tasks.classifier import Probe

__all__ = ["Backbone", "LabelledBatch", "LabelledImage", "LabelledImages", "Probe"]

# name -> where it is: imported when it is first used, since torch takes seconds
_MODULES = {
    "Backbone": "hvtrain.api",
    "LabelledBatch": "hvtrain.data.labelled_images",
    "LabelledImage": "hvtrain.data.labelled_images",
    "LabelledImages": "hvtrain.data.labelled_images",
    "Probe": "hvtrain.tasks.classifier",
}


def __getattr__(name: str) -> Any:
    """What one of the names above stands for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
