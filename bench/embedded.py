"""The embedded networks on generated scenes they were never trained on, against the weight-free regions and the best
answer that ignores the prompt.

python bench/embedded.py sam2       [--scenes 200] [--checkpoint embedded] [--thresholds 0.3 0.4 0.75] [--first-seed 0]
python bench/embedded.py hyperfree  the same, of each of --cameras vis31 nir25 vnir128 vnir61; it was never trained on
vnir61

click   : on the pixel deepest inside the object. Network: its mask of the best predicted IoU, and the best of its
          three.
          regions: the best-scored mask that holds the pixel
box     : of the object. Network: its single mask. regions: the mask whose box is most like it
AR@100  : of the rgb or the material branch, 32 x 32 points, best score first; spectral-only: share of the objects that
          only a
          spectrum shows found at IoU .5 among the same 100
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ledger
import numpy as np
import torch

from hvlabel.branches.generator import generate_masks
from hvlabel.branches.material import MaterialSettings, spectral_components
from hvlabel.branches.network import hyperfree_of
from hvlabel.branches.regions import multiscale_regions
from hvlabel.config import GeneratorSettings, HyperFreeModel, RegionSettings, Sam2Model
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.scenes import Instance, make_photo, make_scene
from hvlabel.inspect.scores import score
from hvlabel.masks import Mask, MaskSet, decode, encode, interior_point, iou_matrix, ranked
from hvlabel.masks.rle import boxes_xywh
from hvlabel.models.device import choose_device, computes_in_bfloat16
from hvlabel.models.hyperfree import HyperFreePredictor
from hvlabel.models.sam2 import Sam2Predictor, load_sam2

SIDE_PX = 256


class Scene:
    """image (H, W, C) as the network takes it, shown (H, W, D) as regions take it, truth."""

    def __init__(self, image: np.ndarray, shown: np.ndarray, instances: Sequence[Instance]) -> None:
        self.image, self.shown = image, shown
        facts = [{"spectral_only": i.spectral_only} for i in instances]
        masks = [Mask(encode(i.mask), 1.0, "rgb", (0.0, 0.0), extra=f) for i, f in zip(instances, facts, strict=True)]
        self.truth = MaskSet(SIDE_PX, SIDE_PX, tuple(masks))


def iou_of(found: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    found = found.cpu()
    return (found & masks).sum((-2, -1)) / (found | masks).sum((-2, -1)).clamp(min=1)


@torch.inference_mode()
def answers(model: Any, scene: Scene) -> dict[str, np.ndarray]:
    """(N,) IoU of the network's answers."""
    masks = torch.from_numpy(np.stack([decode(m.rle) for m in scene.truth.masks]))
    points = np.array([interior_point(m.numpy()) for m in masks])
    embedding = model.embed(scene.image)
    logits, predicted = model.decode(embedding, points)
    iou = iou_of(torch.stack([model.upscale(x, embedding) > 0 for x in logits]), masks[:, None])
    xywh = torch.from_numpy(boxes_xywh(scene.truth.rles)).float()
    boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1) / SIDE_PX
    single = (_of_boxes_hyperfree if isinstance(model, HyperFreePredictor) else _of_boxes_sam2)(model, embedding, boxes)
    return {
        "click": iou.gather(1, predicted.cpu().argmax(1, keepdim=True))[:, 0].numpy(),
        "click, best of three": iou.max(1).values.numpy(),
        "box": iou_of(model.upscale(single, embedding) > 0, masks).numpy(),
    }


def _of_boxes_hyperfree(model: HyperFreePredictor, embedding: Any, boxes: torch.Tensor) -> torch.Tensor:
    scaled = boxes.to(embedding.features.device) * model.network.topology.image_size_px
    return model.network.decode(embedding.features, boxes_xyxy=scaled, multimask=False)[0][:, 0]


def _of_boxes_sam2(model: Sam2Predictor, embedding: Any, boxes: torch.Tensor) -> torch.Tensor:
    network = model.network
    scaled = boxes.to(network.device) * network.image_size
    sparse, dense = network.sam_prompt_encoder(points=None, boxes=scaled, masks=None)
    logits, *_ = network.sam_mask_decoder(
        image_embeddings=model._image(embedding),
        image_pe=network.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
        repeat_image=True,
        high_res_features=embedding.features[:-1],
    )
    return logits[:, 0]


def answers_of_regions(regions: list[Mask], truth: MaskSet) -> dict[str, np.ndarray]:
    masks = np.stack([decode(m.rle) for m in regions])
    iou = iou_matrix(truth.rles, [m.rle for m in regions])
    clicks, boxes = [], []
    found = boxes_xywh([m.rle for m in regions])
    for k, target in enumerate(truth.masks):
        x, y = interior_point(decode(target.rle))
        holding = np.flatnonzero(masks[:, int(y), int(x)])
        clicks.append(iou[k, holding[0]] if len(holding) else 0.0)
        a = boxes_xywh([target.rle])[0]
        low, high = np.maximum(found[:, :2], a[:2]), np.minimum(found[:, :2] + found[:, 2:], a[:2] + a[2:])
        common = np.clip(high - low, 0, None).prod(axis=1)
        boxes.append(iou[k, (common / (found[:, 2:].prod(axis=1) + a[2:].prod() - common)).argmax()])
    return {"click": np.array(clicks), "box": np.array(boxes)}


def without_prompt(truth: MaskSet) -> np.ndarray:
    """(N,) IoU of the one answer that suits all objects best: one of them, or the whole picture."""
    everything = encode(np.ones((SIDE_PX, SIDE_PX), bool))
    table = iou_matrix([*truth.rles, everything], truth.rles)
    return table[table.mean(axis=1).argmax()]


def measure(
    case: str,
    scenes: Iterator[Scene],
    model: Callable[[bool], Any],
    settings: GeneratorSettings,
    regions: RegionSettings,
) -> None:
    """Append a row. model: in float32 or, where asked, in bfloat16."""
    exact, fast = model(False), model(computes_in_bfloat16(choose_device("auto")))
    kinds: dict[str, list[np.ndarray]] = {}
    pairs: dict[str, list[tuple[MaskSet, MaskSet]]] = {"network": [], "regions": []}
    seconds = dict.fromkeys(pairs, 0.0)
    for scene in scenes:
        start = time.perf_counter()
        found = generate_masks(fast, scene.image, settings, "rgb")
        middle = time.perf_counter()
        classical = multiscale_regions(scene.shown, regions, "rgb")
        seconds["network"] += middle - start
        seconds["regions"] += time.perf_counter() - middle
        pairs["network"].append((ranked(found, SIDE_PX, SIDE_PX), scene.truth))
        pairs["regions"].append((ranked(classical, SIDE_PX, SIDE_PX), scene.truth))
        for name, iou in answers(exact, scene).items():
            kinds.setdefault(f"network {name}", []).append(iou)
        for name, iou in answers_of_regions(classical, scene.truth).items():
            kinds.setdefault(f"regions {name}", []).append(iou)
        kinds.setdefault("no prompt", []).append(without_prompt(scene.truth))
    told = [f"{name} {np.concatenate(v).mean():.3f}" for name, v in kinds.items()]
    for name, found_and_truth in pairs.items():
        best, all_ = (score(found_and_truth, n) for n in (100, 1000))
        told.append(
            f"{name}: AR@100 {best.ar:.3f}, AR@1000 {all_.ar:.3f}, spectral-only {best.spectral_only:.3f}, "
            f"{best.masks_per_image:.0f} masks"
        )
    n = len(pairs["network"])
    ledger.append("embedded", case, seconds["network"] / n, "regions", seconds["regions"] / n, "; ".join(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["sam2", "hyperfree"])
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--checkpoint", default="embedded")
    parser.add_argument("--config", help="of a SAM2 that is not the embedded one")
    parser.add_argument(
        "--thresholds", type=float, nargs=3, default=(0.3, 0.4, 0.75), metavar=("IOU", "STABILITY", "NMS")
    )
    parser.add_argument("--cameras", nargs="+", choices=CAMERAS, default=["vis31", "nir25", "vnir128", "vnir61"])
    a = parser.parse_args()
    device, seeds = choose_device("auto"), range(a.first_seed, a.first_seed + a.scenes)
    iou, stability, nms = a.thresholds
    settings = GeneratorSettings(pred_iou_thresh=iou, stability_score_thresh=stability, box_nms_thresh=nms)
    known = f"{a.checkpoint}, {a.scenes} scenes {{}} from seed {a.first_seed}, thresholds {iou:g} {stability:g} {nms:g}"
    if a.network == "sam2":
        photos = (make_photo(SIDE_PX, seed) for seed in seeds)
        scenes = (Scene(p.rgb, p.rgb.astype(np.float32) / 255, p.instances) for p in photos)
        sam2 = load_sam2(Sam2Model(config=a.config, checkpoint=a.checkpoint), device)
        case = f"SAM2 {known.format('photographed')}"
        measure(case, scenes, lambda half: Sam2Predictor(sam2, half=half), settings, RegionSettings())
        return
    material, hyperfree = MaterialSettings(), hyperfree_of(HyperFreeModel(checkpoint=a.checkpoint)).to(device)
    for name in a.cameras:
        camera = CAMERAS[name]
        bands_nm = camera.centres_nm.tolist()
        made = (make_scene(camera, SIDE_PX, seed) for seed in seeds)
        scenes = (
            Scene(s.signal.transpose(1, 2, 0), spectral_components(s.signal, material.n_components), s.instances)
            for s in made
        )
        case = f"HyperFree {known.format(f'of {name}')}"

        def of_camera(half: bool, bands_nm: list[float] = bands_nm) -> HyperFreePredictor:
            return HyperFreePredictor(hyperfree, bands_nm, half=half)

        measure(case, scenes, of_camera, settings, material.regions)


if __name__ == "__main__":
    main()
