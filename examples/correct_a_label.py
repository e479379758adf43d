"""Take masks out of a label and draw one, then have the label kept: `hvlabel accept` seals it as corrected.

python examples/correct_a_label.py results/labels/DATASET/IMAGE.json --drop 9 11 --polygon 10,10,40,10,40,50
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Edit the file in place and accept it. Masks are named by their `id`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("label", type=Path)
    parser.add_argument("--drop", type=int, nargs="*", default=[], help="ids of masks to take out")
    parser.add_argument("--polygon", help="x,y,x,y,... in px: outline of a mask to add")
    given = parser.parse_args()
    label = json.loads(given.label.read_text())
    kept = [mask for mask in label["annotations"] if mask["id"] not in given.drop]
    if given.polygon:
        outline = [float(number) for number in given.polygon.split(",")]
        kept.append({"segmentation": [outline]})  # area, box, score and number follow from it
    label["annotations"] = kept
    given.label.write_text(json.dumps(label))
    subprocess.run([sys.executable, "-m", "hvlabel", "accept", given.label], check=True)


if __name__ == "__main__":
    main()
