"""Labelled images as a PyTorch data set, in batches.

python examples/read_labels.py results
"""

import sys

from torch.utils.data import DataLoader

from hvtrain import LabelledImages


def main(results: str) -> None:
    """Print what one epoch over a results folder holds."""
    images = LabelledImages(results, max_masks=32)
    loader = DataLoader(images, batch_size=2, shuffle=True, collate_fn=images.collate)
    for batch in loader:
        # lists, one tensor per image: cameras differ in bands, images in size and number of masks
        for name, cube, masks, scores in zip(batch.image_ids, batch.cubes, batch.masks, batch.scores, strict=True):
            best = f"{scores[0]:.2f}" if len(scores) else "none"
            print(f"{name}: cube {tuple(cube.shape)}, masks {tuple(masks.shape)}, best score {best}")


if __name__ == "__main__":
    main(sys.argv[1])
