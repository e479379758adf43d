"""The embedded SAM2 on generated photographs it was never trained on, against the weight-free regions and the best answer that ignores the prompt.

python bench/embedded.py [--photos 200] [--checkpoint embedded] [--thresholds 0.4 0.5] [--first-seed 0]

click   : on the pixel deepest inside the object. SAM2: its mask of the best predicted IoU, and the best of its three.
          regions: the best-scored mask that holds the pixel
box     : of the object. SAM2: its single mask. regions: the mask whose box is most like it
AR@100  : of the rgb branch, 32 x 32 points, best score first
"""

import argparse
import time
from collections.abc import Sequence

import ledger
import numpy as np
import torch

from hvlabel.branches.generator import generate_masks
from hvlabel.branches.regions import multiscale_regions
from hvlabel.config import GeneratorSettings, RegionSettings, Sam2Model
from hvlabel.demo.scenes import Instance, make_photo
from hvlabel.evaluation import score
from hvlabel.masks import Mask, MaskSet, decode, encode, interior_point, iou_matrix, ranked
from hvlabel.masks.rle import boxes_xywh
from hvlabel.models.device import choose_device, computes_in_bfloat16
from hvlabel.models.sam2 import Embedding, Sam2Predictor, load_sam2

SIDE_PX = 256


def answers(model: Sam2Predictor, embedding: Embedding, truth: MaskSet) -> dict[str, np.ndarray]:
    """(N,) IoU of SAM2's answers."""
    masks = torch.from_numpy(np.stack([decode(m.rle) for m in truth.masks]))
    points = np.array([interior_point(m.numpy()) for m in masks])
    logits, predicted = model.decode(embedding, points)
    found = torch.stack([model.upscale(x, embedding) > 0 for x in logits])  # (N, 3, H, W)
    iou = iou_of(found, masks[:, None])
    xywh = torch.from_numpy(boxes_xywh(truth.rles)).float()
    boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1) * (model.network.image_size / SIDE_PX)
    single = _of_boxes(model, embedding, boxes)
    return {
        "click": iou.gather(1, predicted.argmax(1, keepdim=True))[:, 0].numpy(),
        "click, best of three": iou.max(1).values.numpy(),
        "box": iou_of(model.upscale(single, embedding) > 0, masks).numpy(),
    }


@torch.inference_mode()
def _of_boxes(model: Sam2Predictor, embedding: Embedding, boxes: torch.Tensor) -> torch.Tensor:
    network = model.network
    sparse, dense = network.sam_prompt_encoder(points=None, boxes=boxes.to(network.device), masks=None)
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


def iou_of(found: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    found = found.cpu()
    return (found & masks).sum((-2, -1)) / (found | masks).sum((-2, -1)).clamp(min=1)


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


def truth_of(instances: Sequence[Instance]) -> MaskSet:
    """Ground truth of a scene of SIDE_PX."""
    masks = [Mask(encode(i.mask), 1.0, "rgb", (0.0, 0.0), extra={"spectral_only": i.spectral_only}) for i in instances]
    return MaskSet(SIDE_PX, SIDE_PX, tuple(masks))


def without_prompt(truth: MaskSet) -> np.ndarray:
    """(N,) IoU of the one answer that suits all objects best: one of them, or the whole picture."""
    everything = encode(np.ones((SIDE_PX, SIDE_PX), bool))
    table = iou_matrix([*truth.rles, everything], truth.rles)
    return table[table.mean(axis=1).argmax()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--checkpoint", default="embedded")
    parser.add_argument("--config")
    parser.add_argument("--thresholds", type=float, nargs=2, default=(0.4, 0.5), metavar=("IOU", "STABILITY"))
    a = parser.parse_args()
    device = choose_device("auto")
    network = load_sam2(Sam2Model(config=a.config, checkpoint=a.checkpoint), device)
    exact, fast = Sam2Predictor(network), Sam2Predictor(network, half=computes_in_bfloat16(device))
    settings = GeneratorSettings(pred_iou_thresh=a.thresholds[0], stability_score_thresh=a.thresholds[1])
    kinds: dict[str, list[np.ndarray]] = {}
    pairs: dict[str, list[tuple[MaskSet, MaskSet]]] = {"sam2": [], "regions": []}
    seconds = dict.fromkeys(pairs, 0.0)
    for seed in range(a.first_seed, a.first_seed + a.photos):
        photo = make_photo(SIDE_PX, seed)
        truth = truth_of(photo.instances)
        start = time.perf_counter()
        found = generate_masks(fast, photo.rgb, settings, "rgb")
        middle = time.perf_counter()
        regions = multiscale_regions(photo.rgb.astype(np.float32) / 255, RegionSettings(), "rgb")
        seconds["sam2"] += middle - start
        seconds["regions"] += time.perf_counter() - middle
        pairs["sam2"].append((ranked(found, SIDE_PX, SIDE_PX), truth))
        pairs["regions"].append((ranked(regions, SIDE_PX, SIDE_PX), truth))
        for name, iou in answers(exact, exact.embed(photo.rgb), truth).items():
            kinds.setdefault(f"SAM2 {name}", []).append(iou)
        for name, iou in answers_of_regions(regions, truth).items():
            kinds.setdefault(f"regions {name}", []).append(iou)
        kinds.setdefault("no prompt", []).append(without_prompt(truth))
    told = [f"{name} {np.concatenate(v).mean():.3f}" for name, v in kinds.items()]
    for name, found_and_truth in pairs.items():
        figures = [f"AR@{n} {score(found_and_truth, n).ar:.3f}" for n in (100, 1000)]
        masks = score(found_and_truth).masks_per_image
        told.append(f"{name}: {', '.join(figures)}, {masks:.0f} masks")
    ledger.append(
        "embedded",
        f"SAM2 {a.checkpoint}, {a.photos} photographs from seed {a.first_seed}, thresholds {a.thresholds[0]:g} {a.thresholds[1]:g}",
        seconds["sam2"] / a.photos,
        "regions",
        seconds["regions"] / a.photos,
        "; ".join(told),
    )


if __name__ == "__main__":
    main()
