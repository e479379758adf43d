"""All labels of a results folder as one COCO file of instances.

python examples/masks_to_coco.py results coco.json
"""

import json
import sys
from pathlib import Path


def main(results: str, out: str, min_score: float = 0.3) -> None:
    """Write the masks of all labels with at least this score; labels know no classes, so there is one category."""
    images, annotations = [], []
    for path in sorted(Path(results, "labels").glob("*/*.json")):
        label = json.loads(path.read_text())
        picture = str(path.with_suffix(".png").relative_to(results))
        size = {"width": label["image"]["width"], "height": label["image"]["height"]}
        images.append({"id": len(images), "file_name": picture, **size})
        for mask in label["annotations"]:
            if mask["score"] >= min_score:
                entry = {name: mask[name] for name in ("segmentation", "bbox", "area", "score")}
                annotations.append(
                    {"id": len(annotations), "image_id": images[-1]["id"], "category_id": 1, "iscrowd": 0, **entry}
                )
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    Path(out).write_text(json.dumps(document))
    print(f"{out}: {len(annotations)} masks of {len(images)} images")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
