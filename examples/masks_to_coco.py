"""The better masks of all labels as COCO, through the Python API: what `hvlabel export --to coco` does.

python examples/masks_to_coco.py results coco
"""

import sys

from hvlabel.exports import export
from hvlabel.exports.source import Source
from hvlabel.layout import Layout

MIN_QUALITY = 0.3  # IoU with an object that is expected of a mask; lower ones are mostly no things


def main(results: str, out: str) -> None:
    """Write the folder `out`: pictures, and annotations/instances_default.json."""
    source = Source(Layout(results), min_quality=MIN_QUALITY)
    for written in export(source, ["coco"], out):
        print(f"{written.folder}: {written.remarks.n_masks} masks of {written.remarks.n_images} images")
    for image, reason in source.failed.items():
        print(f"{image}: left out, {reason}")


if __name__ == "__main__":
    main(*sys.argv[1:])
