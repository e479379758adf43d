"""material by the distilled network: masks of a cube from one pass of an encoder that takes any camera's bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hvlabel.branches.generator import generate_masks
from hvlabel.branches.pictures import scored
from hvlabel.config import GeneratorSettings
from hvlabel.masks import Mask, best_masks
from hvlabel.models.sam.conditioning import grouped
from hvlabel.models.sam.distilled import SpectralPredictor


def distilled_masks(
    values: np.ndarray,
    wavelengths_nm: Sequence[float],
    of_camera: Callable[[Sequence[float]], SpectralPredictor],
    settings: GeneratorSettings,
    *,
    nms_iou: float,
    max_masks: int,
    valid: np.ndarray | None = None,
) -> list[Mask]:
    """Masks of a cube, best first; score and suppression are those of masks by SAM's composites.

    values         : (C, H, W) float32, any unit, finite
    wavelengths_nm : (C,) band centres
    of_camera      : a camera's wavelengths (nm) to its network
    valid          : (H, W) bool, pixels with values; None: all
    """
    # grouped here, not first in the network: the generator looks at the colours under its points too
    groups, centres_nm = grouped(values, wavelengths_nm)
    model = of_camera(centres_nm.tolist())
    image = np.ascontiguousarray(groups.transpose(1, 2, 0))  # (H, W, G)
    embedding = model.embed(image, valid)  # here, since the generator knows nothing of valid pixels
    generated = generate_masks(model, image, settings, "material", embedding)
    return best_masks([scored(mask) for mask in generated], nms_iou, max_masks)
