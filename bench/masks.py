"""Mask generation with SAM2: ours against the package's own generator, on the same weights, images, settings and threads.

python bench/masks.py [nano|tiny|base_plus ...]

Weights are random (the package's initialisation, with image tokens that attend to prompts at their own place, so that masks are local): seconds and
equality mean something, quality does not. The threshold on the predicted IoU is set so that a tenth of all masks pass it.
"""

import resource
import sys
import time
from pathlib import Path

import ledger
import numpy as np
import torch
from pycocotools import mask as coco
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

from hvlabel.branches.generator import generate_masks
from hvlabel.config import GeneratorSettings, Sam2Model
from hvlabel.models.sam2 import Sam2Predictor, load_sam2

NANO = Path(__file__).resolve().parent.parent / "resources" / "models" / "sam2_nano.yaml"
# config, side of the image, points per side, rounds
CASES = {
    "nano": (str(NANO), 256, 32, 3),
    "tiny": ("configs/sam2.1/sam2.1_hiera_t.yaml", 1024, 32, 1),
    "base_plus": ("configs/sam2.1/sam2.1_hiera_b+.yaml", 1024, 32, 1),
}
PASSING_SHARE = 0.1


def scene(side: int) -> np.ndarray:
    """(H, W, 3) uint8: discs and stripes of many sizes, with noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    picture = np.full((side, side, 3), 90.0)
    for _ in range(60):
        centre, radius = rng.integers(0, side, 2), rng.integers(side // 60, side // 8)
        picture[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] = rng.integers(0, 255, 3)
    return np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


def network_of(config: str) -> torch.nn.Module:
    network = load_sam2(Sam2Model(config=config, checkpoint="random:1"), torch.device("cpu"))
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


def iou_limit(model: Sam2Predictor, image: np.ndarray, per_side: int) -> float:
    """Predicted IoU that a tenth of all masks exceed."""
    from hvlabel.branches.generator import point_grid

    embedding = model.embed(image)
    points = point_grid(per_side) * image.shape[0]
    iou = torch.cat([model.decode(embedding, points[k : k + 64])[1] for k in range(0, len(points), 64)])
    return float(iou.flatten().quantile(1 - PASSING_SHARE))


def compare(name: str) -> None:
    config, side, per_side, rounds = CASES[name]
    network, image = network_of(config), scene(side)
    model = Sam2Predictor(network)
    limit = iou_limit(model, image, per_side)
    shared = {
        "points_per_side": per_side,
        "points_per_batch": 64,
        "pred_iou_thresh": limit,
        "mask_threshold": 3.0,
        "stability_score_offset": 0.05,
        "stability_score_thresh": 0.01,
        "box_nms_thresh": 0.9,
    }
    theirs = SAM2AutomaticMaskGenerator(network, output_mode="coco_rle", **shared)
    s = network.image_size
    theirs.predictor._bb_feat_sizes = [(s // 4,) * 2, (s // 8,) * 2, (s // 16,) * 2]  # the package assumes 1024 px
    settings = GeneratorSettings(**shared)
    phases: dict[str, float] = {}

    def timed(what: str, call):  # noqa: ANN001, ANN202 (any method)
        def run(*arguments, **named):  # noqa: ANN002, ANN003, ANN202
            start = time.perf_counter()
            result = call(*arguments, **named)
            phases[what] = phases.get(what, 0.0) + time.perf_counter() - start
            return result

        return run

    for what in ("embed", "decode_above", "upscale"):
        setattr(model, what, timed(what, getattr(model, what)))
    ours_s, theirs_s = [], []
    for _ in range(rounds):
        phases.clear()
        start = time.perf_counter()
        ours = generate_masks(model, image, settings, "rgb")
        ours_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        with torch.inference_mode():
            expected = theirs.generate(image)
        theirs_s.append(time.perf_counter() - start)
    same_list = len(ours) == len(expected)
    iou = [float(coco.iou([m.rle], [e["segmentation"]], [0])[0, 0]) for m, e in zip(ours, expected, strict=False)]
    phases["rest"] = ours_s[-1] - sum(phases.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    told = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in phases.items())
    ledger.append(
        "masks",
        f"SAM2 {name}, random weights, {side} px, {per_side**2} points, {torch.get_num_threads()} threads",
        min(ours_s),
        "SAM2AutomaticMaskGenerator",
        min(theirs_s),
        f"{len(ours)} masks, same list: {same_list}, worst IoU {min(iou, default=1.0):.4f}; ours: {told}; peak of both {peak} MiB",
    )


if __name__ == "__main__":
    for case in sys.argv[1:] or ["nano", "tiny"]:
        compare(case)
