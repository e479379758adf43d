"""The embedded HyperFree on cubes of generated scenes it was never trained on, against the weight-free regions of the material branch.

python bench/embedded_cubes.py [--scenes 50] [--checkpoint embedded] [--thresholds 0.4 0.5] [--cameras vis31 nir25 vnir128 vnir61]

scenes  : per camera; it was never trained on vnir61
click   : on the pixel deepest inside the object. HyperFree: its mask of the best predicted IoU, and the best of its three.
          regions: the best-scored mask that holds the pixel
box     : of the object. HyperFree: its single mask. regions: the mask whose box is most like it
AR@100  : of the material branch, 32 x 32 points, best score first; spectral-only: found at IoU .5 among the same 100
"""

import argparse
import time

import ledger
import numpy as np
import torch
from embedded import SIDE_PX, answers_of_regions, iou_of, truth_of, without_prompt

from hvlabel.branches.generator import generate_masks
from hvlabel.branches.material import spectral_components
from hvlabel.branches.regions import multiscale_regions
from hvlabel.config import GeneratorSettings, HyperFreeModel, MaterialSettings
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.scenes import make_scene
from hvlabel.evaluation import score
from hvlabel.masks import MaskSet, decode, interior_point, ranked
from hvlabel.masks.rle import boxes_xywh
from hvlabel.models.device import choose_device, computes_in_bfloat16
from hvlabel.models.hyperfree import HyperFreePredictor
from hvlabel.stages.network import hyperfree_of


@torch.inference_mode()
def answers(model: HyperFreePredictor, image: np.ndarray, truth: MaskSet) -> dict[str, np.ndarray]:
    """(N,) IoU of HyperFree's answers."""
    masks = torch.from_numpy(np.stack([decode(m.rle) for m in truth.masks]))
    points = np.array([interior_point(m.numpy()) for m in masks])
    embedding = model.embed(image)
    logits, predicted = model.decode(embedding, points)
    iou = iou_of(torch.stack([model.upscale(x, embedding) > 0 for x in logits]), masks[:, None])
    xywh = torch.from_numpy(boxes_xywh(truth.rles)).float()
    scale = model.network.topology.image_size_px / SIDE_PX
    boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1).to(embedding.features.device) * scale
    single, _ = model.network.decode(embedding.features, boxes_xyxy=boxes, multimask=False)
    return {
        "click": iou.gather(1, predicted.cpu().argmax(1, keepdim=True))[:, 0].numpy(),
        "click, best of three": iou.max(1).values.numpy(),
        "box": iou_of(model.upscale(single[:, 0], embedding) > 0, masks).numpy(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--checkpoint", default="embedded")
    parser.add_argument("--thresholds", type=float, nargs=2, default=(0.4, 0.5), metavar=("IOU", "STABILITY"))
    parser.add_argument("--cameras", nargs="+", choices=CAMERAS, default=["vis31", "nir25", "vnir128", "vnir61"])
    a = parser.parse_args()
    device = choose_device("auto")
    network = hyperfree_of(HyperFreeModel(checkpoint=a.checkpoint)).to(device)
    settings = GeneratorSettings(pred_iou_thresh=a.thresholds[0], stability_score_thresh=a.thresholds[1])
    material = MaterialSettings()
    for name in a.cameras:
        camera = CAMERAS[name]
        wavelengths_nm = camera.centres_nm.tolist()
        exact = HyperFreePredictor(network, wavelengths_nm)
        fast = HyperFreePredictor(network, wavelengths_nm, half=computes_in_bfloat16(device))
        kinds: dict[str, list[np.ndarray]] = {}
        pairs: dict[str, list[tuple[MaskSet, MaskSet]]] = {"hyperfree": [], "regions": []}
        seconds = dict.fromkeys(pairs, 0.0)
        for seed in range(a.first_seed, a.first_seed + a.scenes):
            scene = make_scene(camera, SIDE_PX, seed)
            truth = truth_of(scene.instances)
            image = scene.signal.transpose(1, 2, 0)
            start = time.perf_counter()
            found = generate_masks(fast, image, settings, "material")
            middle = time.perf_counter()
            components = spectral_components(scene.signal, material.n_components)
            regions = multiscale_regions(components, material.regions, "material")
            seconds["hyperfree"] += middle - start
            seconds["regions"] += time.perf_counter() - middle
            pairs["hyperfree"].append((ranked(found, SIDE_PX, SIDE_PX), truth))
            pairs["regions"].append((ranked(regions, SIDE_PX, SIDE_PX), truth))
            for kind, iou in answers(exact, image, truth).items():
                kinds.setdefault(f"HyperFree {kind}", []).append(iou)
            for kind, iou in answers_of_regions(regions, truth).items():
                kinds.setdefault(f"regions {kind}", []).append(iou)
            kinds.setdefault("no prompt", []).append(without_prompt(truth))
        told = [f"{kind} {np.concatenate(v).mean():.3f}" for kind, v in kinds.items()]
        for kind, found_and_truth in pairs.items():
            best = score(found_and_truth, 100)
            told.append(
                f"{kind}: AR@100 {best.ar:.3f}, spectral-only {best.spectral_only:.3f}, {best.masks_per_image:.0f} masks"
            )
        ledger.append(
            "embedded_cubes",
            f"HyperFree {a.checkpoint}, {a.scenes} scenes of {name} from seed {a.first_seed}, thresholds {a.thresholds[0]:g} {a.thresholds[1]:g}",
            seconds["hyperfree"] / a.scenes,
            "regions",
            seconds["regions"] / a.scenes,
            "; ".join(told),
        )


if __name__ == "__main__":
    main()
