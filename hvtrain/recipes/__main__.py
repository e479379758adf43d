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
    arguments = parser.parse_args()
    if arguments.network == "memory" and (arguments.start is None or not arguments.start.is_file()):
        parser.error(f"memory needs --start, the .safetensors file of a SAM2; found {arguments.start}")
    try:
        match arguments.network:
            case "memory":
                sam2_memory.train(arguments.start, arguments.out, arguments.threads, arguments.workers)
            case "sam2":
                sam2_image.train(arguments.out, arguments.threads, arguments.workers)
            case "hyperfree":
                hyperfree_small.train(arguments.out, arguments.threads, arguments.workers)
    except HvError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
