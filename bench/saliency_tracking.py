"""Salient objects and tracking where only a spectrum tells things apart: frozen features of cubes beside those of RGB.

python bench/saliency_tracking.py saliency|tracking [BACKBONE]    rows of the ledger
BACKBONE: a run or .safetensors file; without one a small HyperFree with first weights
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import cv2
import ledger
import numpy as np
import yaml

from hvlabel.config import StudentSettings
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.salient import salient_scene
from hvlabel.demo.sequences import moving_object, write_sequence
from hvtrain.backbones.weights import export
from hvtrain.downstream.adapt import Request, adapt
from hvtrain.downstream.place import place_in
from hvtrain.student import make_student

CAMERA = CAMERAS["vnir61"]
DESCRIPTOR = CAMERA.descriptor.model_dump(mode="json", exclude_defaults=True)
ENDING = ".tif"
SIDE_PX = 64  # of scenes, frames and the small backbone's input
N_SCENES, N_SEQUENCES, N_FRAMES = 40, 16, 12
THREADS = 1
SALIENCY = {
    "kind": "saliency",
    "title": "one salient spectrum per scene",
    "images": {"descriptor": DESCRIPTOR, "glob": f"images/*{ENDING}"},
    "truth": {"file": "truth/{name}.png"},
    "split": {"shares": {"train": 0.7, "val": 0.1, "test": 0.2}},
    "head": "sam",
    "recipe": {"steps": 240, "batch_images": 4, "lr": 1e-3, "warmup_steps": 10, "validate_every": 120},
}
TRACKING = {
    "kind": "tracking",
    "title": "one object and two metamers of it",
    "cameras": {"vnir61": {"descriptor": DESCRIPTOR, "frames": f"*{ENDING}"}},
    "shares": {"train": 0.6, "val": 0.1, "test": 0.3},
    "width": 32,
    "head": "center",
    "recipe": {"steps": 80, "batch_images": 4, "lr": 1e-3, "warmup_steps": 10, "validate_every": 40},
}


def write_salient(data: Path) -> None:
    for folder in ("images", "truth"):
        (data / folder).mkdir(parents=True)
    for k in range(N_SCENES):
        scene = salient_scene(CAMERA, SIDE_PX, k)
        CAMERA.write(data / "images" / f"s{k:03d}{ENDING}", scene.signal, scene.companion)
        cv2.imwrite(str(data / "truth" / f"s{k:03d}.png"), scene.truth.astype(np.uint8) * 255)


def write_moving(data: Path) -> None:
    for k in range(N_SEQUENCES):
        write_sequence(data / f"s{k:02d}", CAMERA, ENDING, moving_object(CAMERA, SIDE_PX, N_FRAMES, k))


def small_backbone(folder: Path) -> Path:
    student = make_student(StudentSettings(backbone="hyperfree", size="small", crop_px=SIDE_PX), 0)
    path = folder / "first-weights.safetensors"
    export(student.state_dict(), path, student.sizes(), student.name)
    return path


def run(task: Path, data: Path, backbone: str, shown: str, results: Path) -> tuple[dict[str, float], float]:
    """Scores of the test part, and seconds."""
    start = time.perf_counter()
    asked = Request(str(task), backbone, input=shown, data=data)
    folder = adapt(asked, place_in(results), device="cpu", threads=THREADS)
    facts = json.loads((folder / "run.json").read_text())
    return facts["scores"]["test"], time.perf_counter() - start


def main(kind: str, backbone: str | None = None) -> None:
    settings, write = {"saliency": (SALIENCY, write_salient), "tracking": (TRACKING, write_moving)}[kind]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        task = root / f"{kind}.yaml"
        task.write_text(yaml.safe_dump(settings))
        write(root / "data")
        source = backbone or str(small_backbone(root))
        scores, seconds = {}, {}
        for shown in ("features", "features-rgb"):
            scores[shown], seconds[shown] = run(task, root / "data", source, shown, root / "results")
    told = []
    for shown, figures in scores.items():
        told.append(f"{shown}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    case = f"{settings['title']}, {Path(source).stem}, {settings['recipe']['steps']} steps, {THREADS} thread, one seed"
    times = seconds["features"], seconds["features-rgb"]
    ledger.append(kind, case, times[0], "the same head on features of RGB", times[1], "; ".join(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
