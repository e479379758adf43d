"""Salient objects and tracking where only a spectrum tells things apart: frozen features of cubes beside those of RGB.

Tracking has three heads, and SAM beside them (`hvlabel models fetch`), which follows by prompts and sees colours only.

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

from hvlabel.config import SamModel, StudentSettings
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.salient import salient_scene
from hvlabel.demo.sequences import moving_object, write_sequence
from hvlabel.models.sam import SamPredictor, sam_of
from hvtrain.backbones.weights import export
from hvtrain.downstream.adapt import Request, adapt, open_file
from hvtrain.downstream.place import place_in
from hvtrain.downstream.prompt_tracker import PromptTracker
from hvtrain.downstream.sequences import Frames, parts_of_tracks, tracks_of
from hvtrain.downstream.tracker import track
from hvtrain.downstream.tracking import score
from hvtrain.metrics.tracking import mean_scores
from hvtrain.student import make_student

CAMERA = CAMERAS["vnir61"]
DESCRIPTOR = CAMERA.descriptor.model_dump(mode="json", exclude_defaults=True)
ENDING = ".tif"
SIDE_PX = 64  # of scenes, frames and the small backbone's input
HEADS = {"saliency": ("sam",), "tracking": ("center", "xcorr", "car")}
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


def run(task: Path, data: Path, backbone: str, head: str, shown: str, results: Path) -> tuple[dict[str, float], float]:
    """Scores of the test part, and seconds."""
    start = time.perf_counter()
    request = Request(str(task), backbone, head=head, input=shown, data=data)
    folder = adapt(request, place_in(results), device="cpu", threads=THREADS)
    facts = json.loads((folder / "run.json").read_text())
    return facts["scores"]["test"], time.perf_counter() - start


def follow_by_sam(task: Path, data: Path) -> tuple[dict[str, float], float]:
    """Scores of SAM, which is asked for the mask in the last box, on the test sequences of a task; and seconds."""
    start = time.perf_counter()
    _, settings = open_file(task)
    predictor = SamPredictor(sam_of(SamModel()))
    frames = Frames("rgb")
    scores = []
    for sequence in parts_of_tracks(tracks_of(data, settings), settings)["test"]:
        boxes = track(sequence, frames, PromptTracker(predictor, frames.brightest(sequence)))
        scores.append(score(sequence, boxes, pysot_compat=False))
    together = mean_scores(scores)
    return {"auc": together.auc, "dp20": together.dp20}, time.perf_counter() - start


def listed(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())


def main(kind: str, backbone: str | None = None) -> None:
    settings, write = {"saliency": (SALIENCY, write_salient), "tracking": (TRACKING, write_moving)}[kind]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        task, data, results = root / f"{kind}.yaml", root / "data", root / "results"
        task.write_text(yaml.safe_dump(settings))
        write(data)
        source = backbone or str(small_backbone(root))
        for head in HEADS[kind]:
            figures, seconds = run(task, data, source, head, "features", results)
            of_rgb, rgb_seconds = run(task, data, source, head, "features-rgb", results)
            steps = settings["recipe"]["steps"]
            case = f"{settings['title']}, {Path(source).stem}, head {head}, {steps} steps, {THREADS} thread, one seed"
            quality = f"features: {listed(figures)}; features-rgb: {listed(of_rgb)}"
            ledger.append(kind, case, seconds, "the same head on features of RGB", rgb_seconds, quality)
        if kind == "tracking":
            by_sam, sam_seconds = follow_by_sam(task, data)
            case = f"{settings['title']}, SAM by prompts, untrained for it, {THREADS} thread"
            ledger.append(kind, case, sam_seconds, f"head {head} on features, trained", seconds, listed(by_sam))


if __name__ == "__main__":
    main(*sys.argv[1:])
