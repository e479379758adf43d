"""Pre-training of backbones on pseudo-labels, and what comes after.

The labelled images of a results folder, for training of one's own:

    from hvtrain import LabelledImages
    image = LabelledImages("results")[0]  # image.cube (C, H, W), image.wavelengths_nm (C,), image.masks (N, H, W)
"""

from hvtrain.data.labelled_images import LabelledBatch, LabelledImage, LabelledImages

__all__ = ["LabelledBatch", "LabelledImage", "LabelledImages"]
