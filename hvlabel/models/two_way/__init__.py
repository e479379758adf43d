"""SAM's mask decoder for many prompts on one image, with a third of the arithmetic.

The same function of the same weights as the plain modules of sam2 and of our HyperFree and SAM, which name their parts
alike (`contract`):

- The first layer sees the same image for every prompt, so its projections of the image are made once (`image`).
- Later, image tokens (thousands) are never projected: a projection of the few prompt tokens by the transposed weights
  gives the same products (`attention`). q . (W x + b) = (W^T q) . x + q . b, where softmax over x does not see q . b;
  and sum p (W x + b) = W (sum p x) + b, as the p sum to one.
- The upscaling is matrix products over tokens; only masks are put into rows and columns (`upscaling`).
- Masks whose predicted IoU is too low are never upscaled (`masks`).
"""

from hvlabel.models.two_way.image import ImageSide, image_side
from hvlabel.models.two_way.masks import (
    LOW_RES_CLAMP,
    DecodedMasks,
    best_mask,
    clear_masks,
    confident_masks,
    embeddable,
    output_tokens,
)
from hvlabel.models.two_way.precision import half_precision
from hvlabel.models.two_way.transformer import two_way
from hvlabel.models.two_way.upscaling import finer_cells

__all__ = [
    "LOW_RES_CLAMP",
    "DecodedMasks",
    "ImageSide",
    "best_mask",
    "clear_masks",
    "confident_masks",
    "embeddable",
    "finer_cells",
    "half_precision",
    "image_side",
    "output_tokens",
    "two_way",
]
