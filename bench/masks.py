"""Mask generation with SAM2: ours against the package's own generator, on the same weights, images, settings and
threads.

python bench/masks.py [embedded|nano|tiny|base_plus ...]

embedded, nano: the trained networks of resources/models (512 and 256 px input) on generated photographs of seeds it was
not trained on, with ground truth
the others: random weights (the package's initialisation, with image tokens that attend to prompts at their own place,
so that masks are
            local): seconds and equality mean something, quality does not. The threshold on the predicted IoU lets a
            tenth of all masks pass.
Runs are interleaved; the package computes in float32, its default, in a process of its own, so that it has the memory
allocator that
it comes with and not the one that ours sets.
"""

import multiprocessing
import resource
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import ledger
import numpy as np
import torch
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

from hvlabel.branches.generator import generate_masks, point_grid
from hvlabel.config import GeneratorSettings, Sam2Model
from hvlabel.demo.scenes import Photo, make_photo
from hvlabel.inspect.scores import score
from hvlabel.masks import Mask, MaskSet, encode, iou_matrix, ranked
from hvlabel.models.device import choose_device, computes_in_bfloat16
from hvlabel.models.sam2 import Sam2Predictor, load_sam2

MODELS = Path(__file__).resolve().parent.parent / "resources" / "models"
# config, checkpoint, side of the images, number of images
CASES = {
    "embedded": (str(MODELS / "sam2_embedded.yaml"), str(MODELS / "sam2_embedded.safetensors"), 256, 12),
    "nano": (str(MODELS / "sam2_nano.yaml"), str(MODELS / "sam2_nano.safetensors"), 256, 12),
    "tiny": ("configs/sam2.1/sam2.1_hiera_t.yaml", None, 1024, 1),
    "base_plus": ("configs/sam2.1/sam2.1_hiera_b+.yaml", None, 1024, 1),
}
PER_SIDE, PASSING_SHARE, PHOTO_SEED = 32, 0.1, 900_000
TRAINED = {"pred_iou_thresh": 0.4, "stability_score_thresh": 0.5}
UNTRAINED = {
    "mask_threshold": 3.0,
    "stability_score_offset": 0.05,
    "stability_score_thresh": 0.01,
    "box_nms_thresh": 0.995,
}
PHASES = ("embed", "decode_above", "upscale")


def scene(side: int) -> np.ndarray:
    """(H, W, 3) uint8: discs and stripes of many sizes, with noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    picture = np.full((side, side, 3), 90.0)
    for _ in range(60):
        centre, radius = rng.integers(0, side, 2), rng.integers(side // 60, side // 8)
        picture[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] = rng.integers(0, 255, 3)
    return np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


def untrained(config: str, device: torch.device) -> torch.nn.Module:
    network = load_sam2(Sam2Model(config=config, checkpoint="random:1"), device)
    decoder = network.sam_mask_decoder
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(2)
        for layer in decoder.transformer.layers:
            attention = layer.cross_attn_image_to_token
            torch.nn.init.orthogonal_(attention.q_proj.weight, gain=8)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.out_proj.weight.mul_(4)
        for mlp in decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.mul_(30)
    return network


def truth_of(photo: Photo, side: int) -> MaskSet:
    masks = [Mask(encode(i.mask), 1.0, "truth", (0.0, 0.0), extra={"spectral_only": False}) for i in photo.instances]
    return MaskSet(side, side, tuple(masks))


def iou_limit(model: Sam2Predictor, image: np.ndarray) -> float:
    """Predicted IoU that a tenth of all masks exceed."""
    embedding = model.embed(image)
    points = point_grid(PER_SIDE) * image.shape[0]
    iou = torch.cat([model.decode(embedding, points[k : k + 64])[1] for k in range(0, len(points), 64)])
    return float(iou.flatten().quantile(1 - PASSING_SHARE))


class Timed:
    """A predictor that adds up the seconds of each phase."""

    def __init__(self, model: Sam2Predictor) -> None:
        self._model = model
        self.phases = dict.fromkeys(PHASES, 0.0)

    def __getattr__(self, name: str):  # noqa: ANN204 (any method)
        method = getattr(self._model, name)
        if name not in PHASES:
            return method

        def run(*arguments, **named):  # noqa: ANN002, ANN003, ANN202
            start = clock()
            result = method(*arguments, **named)
            self.phases[name] += clock() - start
            return result

        return run


def clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def network_of(name: str, device: torch.device) -> torch.nn.Module:
    config, checkpoint, *_ = CASES[name]
    return (
        load_sam2(Sam2Model(config=config, checkpoint=checkpoint), device) if checkpoint else untrained(config, device)
    )


def serve_package(name: str, settings: dict, pipe) -> None:  # noqa: ANN001 (a connection)
    """Answer images with the package's records and the seconds they took, until None comes."""
    network = network_of(name, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    package = SAM2AutomaticMaskGenerator(network, output_mode="coco_rle", **settings)
    s = network.image_size
    package.predictor._bb_feat_sizes = [(s // 4,) * 2, (s // 8,) * 2, (s // 16,) * 2]  # the package assumes 1024 px
    while (image := pipe.recv()) is not None:
        start = clock()
        with torch.inference_mode():
            records = package.generate(image)
        pipe.send((records, clock() - start))


@contextmanager
def package_of(name: str, settings: dict):  # noqa: ANN201 (a context)
    """A function (image) -> (records, seconds)."""
    context = multiprocessing.get_context("spawn")
    pipe, far = context.Pipe()
    process = context.Process(target=serve_package, args=(name, settings, far), daemon=True)
    process.start()
    far.close()  # so that the end of the process is the end of the pipe

    def generate(image: np.ndarray) -> tuple[list[dict], float]:
        pipe.send(image)
        return pipe.recv()

    try:
        yield generate
    finally:
        with suppress(BrokenPipeError):
            pipe.send(None)
        process.join()


def compare(name: str) -> None:
    _, checkpoint, side, n_images = CASES[name]
    device = choose_device("auto")
    network = network_of(name, device)
    if checkpoint:
        shared = TRAINED
        photos = [make_photo(side, PHOTO_SEED + k) for k in range(n_images)]
        images, truth = [p.rgb for p in photos], [truth_of(p, side) for p in photos]
    else:
        images, truth = [scene(side)], []
        shared = {**UNTRAINED, "pred_iou_thresh": iou_limit(Sam2Predictor(network), images[0])}
    shared = {**shared, "points_per_side": PER_SIDE, "points_per_batch": 64}
    ours = {
        "exact": (Timed(Sam2Predictor(network)), GeneratorSettings(mode="exact", **shared)),
        "fast, float32": (Timed(Sam2Predictor(network)), GeneratorSettings(**shared)),
    }
    if computes_in_bfloat16(device):
        ours["fast, bfloat16"] = (Timed(Sam2Predictor(network, half=True)), GeneratorSettings(**shared))
    seconds: dict[str, list[float]] = {}
    masks: dict[str, list[MaskSet]] = {}
    with package_of(name, shared) as package:
        for image in images:
            records, took = package(image)
            seconds.setdefault("package", []).append(took)
            theirs = [Mask(r["segmentation"], r["predicted_iou"], "rgb", (0.0, 0.0)) for r in records]
            masks.setdefault("package", []).append(ranked(theirs, side, side))
            for what, (model, settings) in ours.items():
                start = time.perf_counter()
                found = generate_masks(model, image, settings, "rgb")
                seconds.setdefault(what, []).append(time.perf_counter() - start)
                masks.setdefault(what, []).append(ranked(found, side, side))
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    weights = "trained" if checkpoint else "random weights"
    for what, (model, _) in ours.items():
        phases = {k: v / len(images) for k, v in model.phases.items()}
        phases["rest"] = float(np.mean(seconds[what])) - sum(phases.values())
        told = [f"{k} {v:.2f} s" for k, v in phases.items()]
        ledger.append(
            "masks",
            f"SAM2 {name}, {weights}, {network.image_size} px, {PER_SIDE**2} points, {where}: {what}",
            float(np.median(seconds[what])),
            "SAM2AutomaticMaskGenerator",
            float(np.median(seconds["package"])),
            "; ".join(
                [
                    agreement(masks[what], masks["package"]),
                    *recalls(masks[what], masks["package"], truth),
                    ", ".join(told),
                    peak(device),
                ]
            ),
        )


def agreement(ours: list[MaskSet], package: list[MaskSet]) -> str:
    """Share of the package's masks found again at IoU 0.5, and their mean IoU."""
    best = np.concatenate(
        [iou_matrix(a.rles, b.rles).max(axis=0, initial=0) for a, b in zip(ours, package, strict=True)]
    )
    matched = best[best >= 0.5]
    same = len(best) == sum(map(len, ours)) and bool((best == 1).all())
    text = f"{sum(map(len, ours))} masks against {len(best)}"
    return text + (
        ", the same" if same else f", {len(matched) / len(best):.3f} matched, their mean IoU {matched.mean():.3f}"
    )


def recalls(ours: list[MaskSet], package: list[MaskSet], truth: list[MaskSet]) -> list[str]:
    if not truth:
        return []
    rows = [[score(list(zip(found, truth, strict=True)), n).ar for found in (ours, package)] for n in (100, 1000)]
    return [f"AR@{n} {row[0]:.3f} against {row[1]:.3f}" for n, row in zip((100, 1000), rows, strict=True)]


def peak(device: torch.device) -> str:
    if device.type == "cuda":
        return f"peak of ours {torch.cuda.max_memory_allocated(device) >> 20} MiB"
    return f"peak of ours {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB"


if __name__ == "__main__":
    for case in sys.argv[1:] or ["embedded", "tiny"]:
        compare(case)
