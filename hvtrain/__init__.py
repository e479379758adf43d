"""Pre-training of backbones on pseudo-labels, and what comes after."""

from hvtrain.data.labelled_images import LabelledBatch, LabelledImage, LabelledImages

__all__ = ["LabelledBatch", "LabelledImage", "LabelledImages"]
