"""What a frozen backbone is worth for segmentation of generated scenes, by share of labels; rows in ledger.csv.

python bench/downstream.py BACKBONE RESULTS [--cameras vis31] [--scenes 40] [--size-px 96] [--steps 200] [--seeds 3]
                           [--labels 1 5 20 100] [--runet] [--threads 2]

The same head on the backbone, on the same network with first weights, on SAM's features of the picture, on the spectra,
and on the picture; and RU-Net trained from scratch on the cube where --runet is given. Runs that RESULTS holds already
are not repeated.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import ledger
import yaml

from hvtrain.downstream.adapt import Request, adapt
from hvtrain.downstream.compare import compare, spread
from hvtrain.downstream.head_run import HeadFiles
from hvtrain.downstream.place import place_in
from hvtrain.downstream.task_file import SHIPPED
from hvtrain.engine.run_folder import read_identity
from hvtrain.student import load_exported

Figures = tuple[float, float, float]  # mean IoU, its deviation over seeds, seconds of a training
SEED = 11  # of the scenes: none that the shipped networks were trained on (resources/models)


@dataclass(frozen=True)
class Way:
    """One way to see the scenes."""

    name: str
    backbone: str | None
    head: str
    input: str


def ways(backbone: str, *, runet: bool) -> list[Way]:
    """Ours first."""
    chosen = [
        Way("pre-trained", backbone, "linear", "features"),
        Way("untrained", f"untrained:{backbone}", "linear", "features"),
        Way("SAM on the picture", "sam", "linear", "features-rgb"),
        Way("raw spectra", None, "linear", "cube"),
        Way("picture", None, "linear", "rgb"),
    ]
    return [*chosen, Way("RU-Net on the cube", None, "runet", "cube")] if runet else chosen


def cell_px(backbone: str, size_px: int) -> int:
    """Side of a cell of the backbone's last map, px of a scene of size_px: what spectra are averaged over as well."""
    network = load_exported(Path(backbone))
    return max(1, round(network.stride_px * size_px / network.side_px))


def write_task(folder: Path, camera: str, scenes: int, size_px: int, steps: int, pooled_px: int) -> Path:
    """The shipped task on other scenes, of one camera."""
    tree = yaml.safe_load((SHIPPED / "demo_materials.yaml").read_text())
    tree["images"] = {"demo": {"demo": camera, "demo_scenes": scenes, "demo_size_px": size_px, "demo_seed": SEED}}
    # linear heads on standardised inputs: at 1e-3 their weights could not grow to where they belong in so few steps
    tree["recipe"] = {
        "steps": steps,
        "lr": 1e-2,
        "batch_images": 4,
        "warmup_steps": 10,
        "validate_every": max(1, steps // 4),
    }
    tree["pooled_px"] = pooled_px
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"bench_{camera}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def main() -> None:
    """All ways, shares and seeds; then the table and the ledger."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone")
    parser.add_argument("results", type=Path)
    parser.add_argument("--cameras", nargs="+", default=["vis31"])
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=float, nargs="+", default=[1.0, 5.0, 20.0, 100.0])
    parser.add_argument("--runet", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    pooled_px = cell_px(given.backbone, given.size_px)
    for camera in given.cameras:
        task = write_task(given.results, camera, given.scenes, given.size_px, given.steps, pooled_px)
        for labels in given.labels:
            figures = {way.name: measured(task, way, labels, given) for way in ways(given.backbone, runet=given.runet)}
            record(camera, labels, figures, given)
    print(compare(given.results))
    print(json.dumps({"steps": given.steps, "size_px": given.size_px}))


def measured(task: Path, way: Way, labels: float, given: argparse.Namespace) -> Figures:
    """Figures of one way on the test scenes."""
    runs = []
    for seed in range(given.seeds):
        request = Request(str(task), way.backbone, way.head, way.input, labels, seed)
        folder = adapt(request, place_in(given.results), device="cpu", threads=given.threads)
        runs.append(read_identity(HeadFiles(folder))["facts"])
    mean, deviation = spread([run["scores"]["test"]["jaccard"] for run in runs])
    return mean, deviation, sum(run["seconds"] for run in runs) / len(runs)


def record(
    camera: str, labels: float, figures: dict[str, tuple[float, float, float]], given: argparse.Namespace
) -> None:
    """A row of the ledger for every other way; figures: as `measured` gives them, ours first."""
    (ours, ours_deviation, ours_s), *_ = figures.values()
    case = f"{camera}, {labels:g} % labels, {given.scenes} scenes"
    for name, (mean, deviation, seconds) in list(figures.items())[1:]:
        quality = f"mIoU {ours:.3f} +- {ours_deviation:.3f} against {mean:.3f} +- {deviation:.3f}, {given.seeds} seeds"
        ledger.append("downstream", case, ours_s, name, seconds, quality)


if __name__ == "__main__":
    main()
