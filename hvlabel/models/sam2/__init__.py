"""SAM2: prompts on images, and masks carried along frames by its memory. Only `network` imports the package sam2."""

from hvlabel.models.sam2.network import load_sam2
from hvlabel.models.sam2.predictor import Sam2Predictor

__all__ = ["Sam2Predictor", "load_sam2"]
