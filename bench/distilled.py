"""The distilled material network beside SAM on composites, on generated scenes that it was never trained on.

python bench/distilled.py [--cameras vnir61 vis31 nir25] [--scenes 24] [--first-seed 700] [--pictures FILE.png]
[--weights FILE]

Both answer the same 16 x 16 points, interleaved scene by scene; SAM with the branch's thresholds, the distilled network
with its
own. It was never trained on vnir61.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import ledger
import numpy as np
import torch

from hvlabel.branches import material
from hvlabel.branches.distilled import distilled_masks
from hvlabel.config import MaterialSettings, SamModel
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.scenes import Scene, make_scene
from hvlabel.inspect.scores import score
from hvlabel.masks import Mask, MaskSet, decode, encode, ranked
from hvlabel.models.device import choose_device, computes_in_bfloat16
from hvlabel.models.sam import SamPredictor, sam_of
from hvlabel.models.sam.distilled import SpectralPredictor, load_spectral

SIDE_PX = 256
WEIGHTS = Path(__file__).resolve().parent.parent / "resources" / "models" / "material_distilled.safetensors"
SHOWN = 4  # scenes of the picture
OPACITY = 0.55

Pairs = list[tuple[MaskSet, MaskSet]]  # found, truth


def truth_of(scene: Scene) -> MaskSet:
    masks = [
        Mask(encode(i.mask), 1.0, "truth", (0.0, 0.0), extra={"spectral_only": i.spectral_only})
        for i in scene.instances
    ]
    return MaskSet(SIDE_PX, SIDE_PX, tuple(masks))


def figures(pairs: Pairs) -> str:
    s = score(pairs)
    told = [
        f"AR@100 {s.ar:.3f}",
        f"spectral-only {s.spectral_only:.3f}",
        f"masks/image {s.masks_per_image:.0f}",
        f"right of all {s.precision:.2f}",
        f"of best 20 {s.precision_best:.2f}",
        f"mean best IoU {s.mean_best_iou:.3f}",
    ]
    return ", ".join(told)


def painted(background: np.ndarray, masks: MaskSet) -> np.ndarray:
    """(H, W, 3) uint8: masks in colours over a picture, large ones first."""
    shown = background.astype(np.float32)
    rng = np.random.default_rng(5)
    shapes = [decode(rle) for rle in masks.rles]
    for shape in sorted(shapes, key=np.count_nonzero, reverse=True):
        shown[shape] = (1 - OPACITY) * shown[shape] + OPACITY * rng.uniform(40, 255, 3)
    return shown.astype(np.uint8)


def row_of(scene: Scene, *shown: MaskSet) -> np.ndarray:
    """The first composite, then mask sets over it."""
    composite = material.composites(scene.signal, 1)[0][1][:, :, ::-1]
    return np.hstack([composite, *(painted(composite, masks) for masks in shown)])


def compare(name: str, sam: Any, network: Any, seeds: range, pictures: Path | None) -> None:
    device = choose_device("auto")
    half = computes_in_bfloat16(device)
    camera, settings = CAMERAS[name], MaterialSettings(backend="sam")
    composites = SamPredictor(sam, half=half)
    own = MaterialSettings(backend="distilled").generator

    def by_composites(scene: Scene) -> MaskSet:
        cube: Any = SimpleNamespace(live_values=lambda: scene.signal, valid=None, height_px=SIDE_PX, width_px=SIDE_PX)
        return material.run(cube, settings, composites)

    def of_camera(wavelengths_nm: Sequence[float]) -> SpectralPredictor:
        return SpectralPredictor(network, wavelengths_nm, half=half)

    def by_distilled(scene: Scene) -> MaskSet:
        limits = {"nms_iou": settings.nms_iou, "max_masks": settings.max_masks}
        masks = distilled_masks(scene.signal, camera.centres_nm.tolist(), of_camera, own, **limits)
        return ranked(masks, SIDE_PX, SIDE_PX)

    ways: dict[str, Callable[[Scene], MaskSet]] = {"distilled": by_distilled, "composites": by_composites}
    pairs: dict[str, Pairs] = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    rows = []
    for seed in seeds:
        scene = make_scene(camera, SIDE_PX, seed)
        truth = truth_of(scene)
        for way, run in ways.items():
            start = time.perf_counter()
            pairs[way].append((run(scene), truth))
            seconds[way].append(time.perf_counter() - start)
        print(seed, *(f"{way} {score(pairs[way]).ar:.3f}" for way in ways), flush=True)
        if len(rows) < SHOWN:
            rows.append(row_of(scene, *(pairs[way][-1][0] for way in ways), truth))
    if pictures:
        cv2.imwrite(str(pictures.with_stem(f"{pictures.stem}_{name}")), np.vstack(rows))
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    ours, peer = (float(np.median(seconds[way])) for way in ways)
    told = "; ".join(f"{way}: {figures(pairs[way])}" for way in ways)
    ledger.append(
        "distilled",
        f"material, {len(seeds)} scenes of {name} from seed {seeds.start}, 256 points, {where}",
        ours,
        "SAM on two composites",
        peer,
        f"{told}; peak of both {peak_mib(device)} MiB",
    )


def peak_mib(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--cameras", nargs="+", choices=CAMERAS, default=["vnir61", "vis31", "nir25"])
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--first-seed", type=int, default=700)
    parser.add_argument("--pictures", type=Path)
    a = parser.parse_args()
    device = choose_device("auto")
    sam = sam_of(SamModel()).to(device)
    network = load_spectral(a.weights, sam).to(device)
    for name in a.cameras:
        compare(name, sam, network, range(a.first_seed, a.first_seed + a.scenes), a.pictures)


if __name__ == "__main__":
    main()
