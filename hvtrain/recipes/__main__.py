"""python -m hvtrain.recipes {sam2,memory,hyperfree} OUT."""

import argparse
from pathlib import Path

from hvlabel.errors import HvError
from hvtrain.recipes import hyperfree_small, sam2_image, sam2_memory


def main() -> None:
    """Train a network that comes with the repository."""
    parser = argparse.ArgumentParser(prog="python -m hvtrain.recipes", description=main.__doc__)
    parser.add_argument("network", choices=["sam2", "memory", "hyperfree"])
    parser.add_argument(
        "out", type=Path, help="folder of metrics.csv, of checkpoint.pt to go on from, and of the weights"
    )
    parser.add_argument("--start", type=Path, help="memory: weights of the SAM2 to which it belongs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that make scenes")
    a = parser.parse_args()
    if a.network == "memory" and (a.start is None or not a.start.is_file()):
        parser.error(f"memory needs --start, the .safetensors file of a SAM2; found {a.start}")
    try:
        match a.network:
            case "memory":
                sam2_memory.train(a.start, a.out, a.threads, a.workers)
            case "sam2":
                sam2_image.train(a.out, a.threads, a.workers)
            case "hyperfree":
                hyperfree_small.train(a.out, a.threads, a.workers)
    except HvError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
