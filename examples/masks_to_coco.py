"""All labels of a results folder as one COCO file of instances.

python examples/masks_to_coco.py results coco.json
"""

import json
import sys
from pathlib import Path

MIN_SCORE = 0.3  # of [0, 1]; lower ones are mostly no things
CATEGORY = {"id": 1, "name": "object"}  # labels know no classes


def main(results: str, out: str) -> None:
    """Write the file; names of images are paths below the results folder."""
    images, annotations = [], []
    for path in sorted(Path(results, "labels").glob("*/*.json")):
        label = json.loads(path.read_text())
        picture = path.with_suffix(".png").relative_to(results)
        height, width = label["image"]["height"], label["image"]["width"]
        image_id = len(images)
        images.append({"id": image_id, "file_name": str(picture), "height": height, "width": width})
        for mask in label["annotations"]:
            if mask["score"] < MIN_SCORE:
                continue
            instance = {name: mask[name] for name in ("segmentation", "bbox", "area", "score")}
            instance |= {"id": len(annotations), "image_id": image_id, "category_id": 1, "iscrowd": 0}
            annotations.append(instance)
    document = {"images": images, "annotations": annotations, "categories": [CATEGORY]}
    Path(out).write_text(json.dumps(document))
    print(f"{out}: {len(annotations)} masks of {len(images)} images")


if __name__ == "__main__":
    main(*sys.argv[1:])
